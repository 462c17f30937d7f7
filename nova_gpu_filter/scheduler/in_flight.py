# SPDX-License-Identifier: Apache-2.0

"""Devices that a request was offered first and that still look free."""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import threading
import time
import types
from typing import NamedTuple
import weakref

FIRST = 1000
"""How much an instance counts that claims on a host first, or may do so,
beside those that try another host before: more than any number of them."""

_memories: "weakref.WeakSet[InFlight]" = weakref.WeakSet()


def holding(instance_uuid: str | None) -> "InFlight | None":
    """Find the memory that has an offer for an instance.

    Filters and weighers of a scheduler are made apart from each other.
    """
    for memory in list(_memories):
        if instance_uuid in memory:
            return memory
    return None


class Choice(NamedTuple):
    """How to keep an instance out of the way of others."""

    places: Mapping[str, int] = types.MappingProxyType({})
    """Host -> which candidate to claim, where that is not the first one."""
    contested: frozenset[str] = frozenset()
    """Hosts on which others claim devices of every candidate first."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Offer:
    expiry: float
    devices_by_host: Mapping[str, frozenset[str]]
    first_host: str | None
    """Where the scheduler claims first; None as long as it is not known."""


class InFlight:
    """Remembers for a few seconds which devices each instance may claim next.

    The scheduler claims the first candidate of the host that it chooses, and
    tries no second one on that host. Until the host state shows the claim,
    every other request sees the same devices as free, and would be offered
    the same first candidate. What is remembered here is only ever used to put
    other devices or hosts first; it decides nothing about which hosts pass.

    An instance is settled, and forgotten, when its devices on some host are no
    longer free: that is where it went, and it will not claim elsewhere.
    Otherwise it is forgotten when its time is up. Safe for several threads.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Remember nothing yet.

        :param seconds: how long; 0 remembers nothing at all.
        :param clock: gives the time in seconds.
        """
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        # Oldest first, as every instance is remembered for the same time.
        self._offer_by_instance: collections.OrderedDict[str, _Offer] = (
            collections.OrderedDict()
        )
        _memories.add(self)

    def __contains__(self, instance_uuid: str | None) -> bool:
        """Whether anything is remembered of an instance."""
        return instance_uuid in self._offer_by_instance

    def __bool__(self) -> bool:
        """Whether anything may be remembered, cheaply."""
        return bool(self._offer_by_instance)

    def remember(
        self,
        instance_uuid: str,
        devices_by_host: Mapping[str, frozenset[str]],
    ) -> None:
        """Note what an instance was offered first, in place of what was.

        :param devices_by_host: host state UUID -> resource provider UUIDs.
        """
        if not self._seconds:
            return
        expiry = self._clock() + self._seconds
        # Hosts are not weighed where there is only one.
        first = (
            next(iter(devices_by_host)) if len(devices_by_host) == 1 else None
        )
        with self._lock:
            self._offer_by_instance[instance_uuid] = _Offer(
                expiry, devices_by_host, first
            )
            self._offer_by_instance.move_to_end(instance_uuid)
            self._forget_expired()

    def choose(
        self, instance_uuid: str, hosts: Mapping[str, Iterable[frozenset[str]]]
    ) -> Choice:
        """Settle where an instance claims first, and what.

        It is the first host that has a candidate whose devices nobody else
        claims first, or the first one of all.

        :param hosts: host state UUID -> providers of the devices of each
            candidate, best first; read only where the first one is contested.
        """
        with self._lock:
            self._forget_expired()
            offer = self._offer_by_instance.get(instance_uuid)
            if offer is None or not hosts:
                return Choice()
            claimed = self._claimed_first_by_others(instance_uuid)
            devices_by_host = dict(offer.devices_by_host)
            places, contested = {}, set()
            for host, candidates in hosts.items():
                if claimed[host].isdisjoint(devices_by_host.get(host, ())):
                    continue
                for place, devices in enumerate(candidates):
                    if claimed[host].isdisjoint(devices):
                        places[host], devices_by_host[host] = place, devices
                        break
                else:
                    contested.add(host)
            first = next((h for h in hosts if h not in contested), None)
            self._offer_by_instance[instance_uuid] = dataclasses.replace(
                offer,
                devices_by_host=devices_by_host,
                first_host=first or next(iter(hosts)),
            )
        return Choice(places, frozenset(contested))

    def _claimed_first_by_others(
        self, instance_uuid: str
    ) -> Mapping[str, set[str]]:
        claimed: dict[str, set[str]] = collections.defaultdict(set)
        for other, offer in self._offer_by_instance.items():
            if other != instance_uuid and offer.first_host is not None:
                # It was offered nothing there where nothing can be contested.
                claimed[offer.first_host] |= offer.devices_by_host.get(
                    offer.first_host, frozenset()
                )
        return claimed

    def taken(
        self, instance_uuid: str, host: str, free: Collection[str]
    ) -> Mapping[str, int]:
        """Count for devices of a host how many others may claim them.

        Those that try another host before count 1, the rest :data:`FIRST`.

        :param instance_uuid: who asks; its own devices are not listed.
        :param free: what the host state shows as free; an instance of which
            it shows that it has claimed is forgotten.
        """
        if not self._offer_by_instance:
            return {}
        taken: collections.Counter[str] = collections.Counter()
        with self._lock:
            self._forget_expired()
            for other, offer in list(self._offer_by_instance.items()):
                devices = offer.devices_by_host.get(host, frozenset())
                if other == instance_uuid or not devices:
                    continue
                if devices.issubset(free):
                    count = FIRST if offer.first_host in (None, host) else 1
                    for device in devices:
                        taken[device] += count
                else:
                    # Not forgotten here: a request that read the host state
                    # before may still see them as free.
                    self._offer_by_instance[other] = dataclasses.replace(
                        offer, devices_by_host={host: devices}, first_host=host
                    )
        return taken

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._offer_by_instance:
            oldest, offer = next(iter(self._offer_by_instance.items()))
            if offer.expiry > now:
                return
            del self._offer_by_instance[oldest]
