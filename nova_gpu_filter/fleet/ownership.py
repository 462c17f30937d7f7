# SPDX-License-Identifier: Apache-2.0

"""Reads who has devices from Placement, and remembers it.

No question tells it of several providers: a provider tells its consumers, and
a consumer tells all of its providers and its project. That is one or two
questions for each server, so an answer is kept for as long as it holds.

It holds while the generation of the provider and its usage are the same, and
both of all providers are in the two answers that a cloud is read with.
Placement raises the generation whenever something is allocated from the
provider (``_set_allocations`` in placement/objects/allocation.py); what is
only deleted is missing from the usage.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
import dataclasses
from typing import TypeAlias

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs

Owners: TypeAlias = Mapping[str, tuple[model.Owner, ...]]
"""Who has a device, by the UUID of its provider; not those without owner."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """Who has something of a provider."""

    generation: int
    """Of the provider, when it was asked."""
    owners: tuple[model.Owner, ...]

    @property
    def amount(self) -> int:
        return sum(owner.amount for owner in self.owners)


_Entries: TypeAlias = Mapping[str, _Entry]
"""By the UUID of the provider."""
_Question: TypeAlias = tuple[model.Host, Mapping[str, int]]
"""A host, and what is used of those of its devices that are in question."""


def read(
    get: api.Get, hosts: Iterable[model.Host], consumers: Iterable[str] = ()
) -> Owners:
    """Read who has the used devices of some hosts, without remembering it."""
    return OwnerReader(get).read(hosts, consumers=consumers)


def choose_likely(
    servers: Iterable[model.Server], hosts: Iterable[model.Host]
) -> list[str]:
    """Choose the UUIDs of servers that should have devices of some hosts."""
    names = {host.name for host in hosts}
    return [
        server.uuid
        for server in servers
        if server.host in names
        and extra_specs.ALIAS_KEY in server.flavor.extra_specs
    ]


def read_consumer(get: api.Get, consumer: str) -> dict[str, model.Owner]:
    """Read what a consumer has, of the host itself as well as devices, by the
    UUID of the provider; nothing, of one that is not known."""
    return {
        uuid: owner
        for uuid, entry in _read_entries(get, consumer).items()
        for owner in entry.owners
    }


def read_consumers(get: api.Get, provider: str) -> dict[str, dict[str, int]]:
    """Read what consumers have of one provider, by resource class."""
    found = get(f"/resource_providers/{provider}/allocations")["allocations"]
    return {
        consumer: dict(allocation["resources"])
        for consumer, allocation in found.items()
    }


def _read_entries(get: api.Get, consumer: str) -> _Entries:
    found = get(f"/allocations/{consumer}")
    return {
        uuid: _Entry(
            allocation["generation"],
            (
                model.Owner(
                    consumer, found["project_id"], _sum_amount(allocation)
                ),
            ),
        )
        for uuid, allocation in found["allocations"].items()
    }


def _sum_amount(allocation: Mapping[str, Mapping[str, int]]) -> int:
    return sum(allocation["resources"].values())


def _count_used(hosts: Iterable[model.Host]) -> Mapping[str, int]:
    """Count what is used, by provider; it may have several classes."""
    used: collections.Counter[str] = collections.Counter()
    for host in hosts:
        for device in host.devices:
            if device.amount.used:
                used[device.uuid] += device.amount.used
    return used


class OwnerReader:
    """What was learned of who has devices."""

    def __init__(self, get: api.Get) -> None:
        """Nothing is known yet.

        :param get: asks Placement; several threads use it at once.
        """
        self._get = get
        self._known: dict[str, _Entry] = {}
        self._asked_in: dict[str, int] = {}
        self._turn = 0

    def read(
        self,
        hosts: Iterable[model.Host],
        at_most: int | None = None,
        consumers: Iterable[str] = (),
    ) -> Owners:
        """Read who has the used devices of some hosts.

        :param at_most: ask only so many questions, and the others another
            time; hosts that were not asked about for longest come first. One
            host is asked about however many it takes. None for all.
        :param consumers: servers that may have some of them. Each is asked at
            once, which spares the question to one of its devices.
        :returns: of the devices of which it is known; what was known and may
            be another by now is left out.
        """
        hosts = list(hosts)
        self._turn += 1
        used = _count_used(hosts)
        fresh = self._ask_consumers(used.keys(), consumers)
        stale = [
            (host, missing)
            for host in hosts
            if (missing := self._find_missing(host, used, fresh))
        ]
        stale.sort(key=lambda pair: self._asked_in.get(pair[0].uuid, 0))
        left = at_most
        while stale:
            number = _count_answerable(stale, left)
            if not number and left != at_most:
                break
            now, stale = stale[: number or 1], stale[number or 1 :]
            for (host, _), (found, asked) in api.ask_all(self._ask_host, now):
                self._known.update(found)
                self._asked_in[host.uuid] = self._turn
                fresh |= found.keys()
                if left is not None:
                    left -= asked
        # What is gone is forgotten.
        self._known = {
            uuid: entry for uuid, entry in self._known.items() if uuid in used
        }
        uuids = {host.uuid for host in hosts}
        self._asked_in = {
            uuid: turn
            for uuid, turn in self._asked_in.items()
            if uuid in uuids
        }
        return {
            device.uuid: entry.owners
            for host in hosts
            for device in host.devices
            if (entry := self._known.get(device.uuid))
            and entry.owners
            and (
                device.uuid in fresh
                or self._holds(device, used[device.uuid], fresh)
            )
        }

    def _ask_consumers(
        self, devices: Set[str], consumers: Iterable[str]
    ) -> set[str]:
        def ask(consumer: str) -> _Entries:
            return _read_entries(self._get, consumer)

        found: dict[str, _Entry] = {}
        for _, entries in api.ask_all(ask, consumers):
            for uuid in devices & entries.keys():
                found[uuid] = _join_entries(found.get(uuid), entries[uuid])
        self._known.update(found)
        return set(found)

    def _find_missing(
        self, host: model.Host, used: Mapping[str, int], fresh: set[str]
    ) -> dict[str, int]:
        """Find the devices to ask about, and how much of each is used."""
        return {
            device.uuid: used[device.uuid]
            for device in host.devices
            if device.uuid in used
            and not self._holds(device, used[device.uuid], fresh)
        }

    def _holds(self, device: model.Device, used: int, fresh: set[str]) -> bool:
        entry = self._known.get(device.uuid)
        return (
            entry is not None
            and entry.amount == used
            and (device.uuid in fresh or entry.generation == device.generation)
        )

    def _ask_host(self, question: _Question) -> tuple[_Entries, int]:
        """Ask about the devices of a host; also return how many questions
        that took."""
        _, missing = question
        found: dict[str, _Entry] = {}
        asked: dict[str, _Entries] = {}
        of_devices = 0
        for uuid, used in missing.items():
            if uuid in found and found[uuid].amount == used:
                continue
            answer = self._get(f"/resource_providers/{uuid}/allocations")
            of_devices += 1
            owners = []
            for consumer, allocation in answer["allocations"].items():
                amount = _sum_amount(allocation)
                owner = self._find_owner(uuid, consumer, amount)
                if owner is None:
                    if consumer not in asked:
                        asked[consumer] = _read_entries(self._get, consumer)
                        for other in missing.keys() & asked[consumer].keys():
                            found[other] = _join_entries(
                                found.get(other), asked[consumer][other]
                            )
                    if uuid not in asked[consumer]:
                        continue  # It is gone by now.
                    [owner] = asked[consumer][uuid].owners
                owners.append(owner)
            found[uuid] = _Entry(
                answer["resource_provider_generation"], tuple(owners)
            )
        return found, of_devices + len(asked)

    def _find_owner(
        self, uuid: str, consumer: str, amount: int
    ) -> model.Owner | None:
        """Find an owner that is known and has as much as before."""
        entry = self._known.get(uuid)
        for owner in entry.owners if entry else ():
            if owner.consumer == consumer and owner.amount == amount:
                return owner
        return None


def _count_answerable(
    questions: Iterable[_Question], at_most: int | None
) -> int:
    """Count the hosts that cannot take more questions than there may be.

    A device takes one, and each of its owners one.
    """
    number = 0
    for _, missing in questions:
        if at_most is not None:
            at_most -= len(missing) + sum(missing.values())
            if at_most < 0:
                break
        number += 1
    return number


def _join_entries(known: _Entry | None, entry: _Entry) -> _Entry:
    """Add an owner to those of a provider that are known."""
    if known is None:
        return entry
    return _Entry(
        min(known.generation, entry.generation), (*known.owners, *entry.owners)
    )
