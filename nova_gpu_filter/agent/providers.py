# SPDX-License-Identifier: Apache-2.0

"""The providers of this compute node's devices in Placement: what they say,
and whether it can be believed.
"""

from collections.abc import Callable
import dataclasses
import logging
from typing import Final
from urllib import parse

from nova_gpu_filter import exception
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.fleet.reserving import Mark
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.nova_rules import names

LOG = logging.getLogger(__name__)

MICROVERSION: Final = "1.31"
"""1.26 is the first that can reserve all of an inventory, 1.19 the first that
notices a change of aggregates in between."""
_ANY: Final = -1
"""Instead of a generation: the agent itself has changed the provider."""


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """A device, or a PF whose VFs are given away."""

    uuid: str
    address: str
    inventory: reserving.Inventory
    is_one_time_use: bool
    """Whether Nova reserves it when it gives it away."""
    consumers: tuple[str, ...] = ()
    """UUIDs of the servers and migrations that have something of it."""


class Providers:
    """Reads and changes the providers of a compute node."""

    def __init__(self, get: api.Get, send: api.Send, hostname: str) -> None:
        """Nothing is asked yet.

        :param hostname: of the root provider: Nova's hypervisor hostname.
        """
        self._get = get
        self._send = send
        self._hostname = hostname
        self._known: dict[str, Provider] = {}

    def read(self) -> dict[str, Provider]:
        """Read all devices, by address.

        Inventories, aggregates and traits are read again when the generation
        of the provider is another one. Allocations are read each time: to
        remove them changes no generation (delete_all of
        placement/objects/allocation.py).

        :raises NoProvider: there is no such compute node.
        :raises FleetError: Placement does not answer.
        """
        found = {}
        for address, uuid, generation in self._list():
            known = self._known.get(uuid)
            if known is None or known.inventory.generation != generation:
                known = self._read_one(uuid, address)
            found[address] = dataclasses.replace(
                known, address=address, consumers=self.read_consumers(uuid)
            )
        self._known = {one.uuid: one for one in found.values()}
        return found

    def set_root_traits(
        self, wanted: frozenset[str], is_ours: Callable[[str], bool]
    ) -> bool:
        """Have the compute node's own provider bear exactly these traits.

        nova-compute leaves traits alone that it does not know
        (update_from_provider_tree of nova/scheduler/client/report.py).

        :param is_ours: whether a trait that is not wanted is to be removed.
        :returns: whether anything was changed.
        :raises FleetError: Placement does not answer, or has changed.
        """
        path = f"/resource_providers/{self._read_root()}/traits"
        found = self._get(path)
        traits = set(found["traits"])
        new = {one for one in traits if not is_ours(one)} | wanted
        if new == traits:
            return False
        for trait in sorted(wanted - traits):
            self._send(f"/traits/{trait}", None)
        generation = "resource_provider_generation"
        self._send(
            path, {"traits": sorted(new), generation: found[generation]}
        )
        return True

    def _read_root(self) -> str:
        query = parse.urlencode({"name": self._hostname})
        roots = self._get(f"/resource_providers?{query}")["resource_providers"]
        if not roots:
            raise errors.NoProvider(name=self._hostname)
        uuid: str = roots[0]["uuid"]
        return uuid

    def _list(self) -> list[tuple[str, str, int]]:
        tree = self._get(f"/resource_providers?in_tree={self._read_root()}")
        found = []
        for provider in tree["resource_providers"]:
            # _get_rp_name_for_address in
            # nova/compute/pci_placement_translator.py
            host, underscore, text = provider["name"].rpartition("_")
            address = address_lib.find(text)
            if underscore and host == self._hostname and address:
                found.append(
                    (str(address), provider["uuid"], provider["generation"])
                )
        return sorted(found)

    def _read_one(self, uuid: str, address: str) -> Provider:
        traits = self._get(f"/resource_providers/{uuid}/traits")["traits"]
        return Provider(
            uuid,
            address,
            reserving.read(self._get, uuid),
            is_one_time_use=names.ONE_TIME_USE in traits,
        )

    def read_consumers(self, uuid: str) -> tuple[str, ...]:
        """Read who has something of a device now."""
        path = f"/resource_providers/{uuid}/allocations"
        return tuple(sorted(self._get(path)["allocations"]))

    def reserve(self, uuid: str) -> bool:
        """Have a device offered to nobody; see :func:`reserving.reserve`."""
        return reserving.reserve(self._get, self._send, uuid)

    def offer(self, uuid: str) -> bool:
        """Have a device offered again; see :func:`reserving.offer`."""
        return reserving.offer(self._get, self._send, uuid)

    def mark(
        self, uuid: str, add: frozenset[Mark], remove: frozenset[Mark]
    ) -> bool:
        """Change what is said of a device; see :mod:`reserving`."""
        return reserving.change_aggregates(
            self._get, self._send, uuid, add, remove
        )


@dataclasses.dataclass(slots=True)
class ReservationWriter:
    """Has Placement agree with the ledger, and finds what others changed."""

    placement: Providers
    reserve_in_use: bool
    generations: dict[str, int] = dataclasses.field(default_factory=dict)
    """Address -> generation of the provider, of free devices that are not of
    one-time use."""

    def find_doubt(self, provider: Provider) -> str | None:
        """Say why a device may have been used although nobody has seen it."""
        if not provider.inventory.has(Mark.MANAGED):
            return "its provider in Placement was made anew"
        if provider.is_one_time_use:
            # Nova leaves it reserved then.
            return None
        known = self.generations.get(provider.address)
        if known is None:
            return "not known whether it was used while no agent was running"
        if known not in (_ANY, provider.inventory.generation):
            # A claim changes it, and so do others.
            return "its provider in Placement has changed"
        return None

    def write(self, provider: Provider, record: states.Record) -> bool:
        """Have Placement agree with the ledger.

        :returns: whether it could be written.
        """
        try:
            is_written = self._write(provider, record)
        except exception.GpuFilterError as error:
            LOG.warning("Device %s: %s", record.address, error)
            self.generations.pop(record.address, None)
            return False
        if record.state is State.FREE:
            self.generations[record.address] = (
                _ANY if is_written else provider.inventory.generation
            )
        else:
            self.generations.pop(record.address, None)
        return True

    def _write(self, provider: Provider, record: states.Record) -> bool:
        is_written = False
        must = record.state in states.MUST_BE_RESERVED or (
            record.state in states.HELD and self.reserve_in_use
        )
        if must and not provider.inventory.is_reserved:
            is_written = self.placement.reserve(provider.uuid)
        add = {Mark.MANAGED}
        remove = {Mark.RELEASE_ASKED}
        is_quarantined = record.state is State.QUARANTINED
        (add if is_quarantined else remove).add(Mark.QUARANTINED)
        if not all(map(provider.inventory.has, add)) or any(
            map(provider.inventory.has, remove)
        ):
            is_written |= self.placement.mark(
                provider.uuid, frozenset(add), frozenset(remove)
            )
        return is_written

    def offer(self, provider: Provider) -> bool:
        """Give a clean device back; whether Placement took it."""
        if not self.placement.offer(provider.uuid):
            return False
        self.generations[provider.address] = _ANY
        return True
