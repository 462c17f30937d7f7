# SPDX-License-Identifier: Apache-2.0

"""The providers of this compute node's devices in Placement."""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import Final
from urllib import parse

from nova_gpu_filter.agent import errors
from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.fleet.reserving import Mark
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.nova_rules import names

MICROVERSION: Final = "1.31"
"""1.26 is the first that can reserve all of an inventory, 1.19 the first that
notices a change of aggregates in between."""


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """A device, or a PF whose VFs are given away."""

    uuid: str
    address: str
    inventory: reserving.Inventory
    consumers: tuple[str, ...]
    """UUIDs of the servers and migrations that have something of it."""
    is_one_time_use: bool
    """Whether Nova reserves it when it gives it away."""


class Providers:
    """Reads and changes the providers of a compute node."""

    def __init__(self, get: api.Get, send: api.Send, hostname: str) -> None:
        """Nothing is asked yet.

        :param hostname: of the root provider: Nova's hypervisor hostname.
        """
        self._get = get
        self._send = send
        self._hostname = hostname
        self._known: dict[str, tuple[reserving.Inventory, bool]] = {}

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
        known = {}
        for address, uuid, generation in self._list():
            old = self._known.get(uuid)
            if old is None or old[0].generation != generation:
                old = self._read_one(uuid)
            known[uuid] = old
            inventory, is_one_time_use = old
            found[address] = Provider(
                uuid,
                address,
                inventory,
                self.read_consumers(uuid),
                is_one_time_use,
            )
        self._known = known
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
        path = f"/resource_providers/{self._read_root()['uuid']}/traits"
        found = self._get(path)
        traits = set(found["traits"])
        new = {one for one in traits if not is_ours(one)} | wanted
        if new == traits:
            return False
        for trait in sorted(wanted - traits):
            self._send(f"/traits/{trait}", None)
        self._send(
            path,
            {
                "traits": sorted(new),
                "resource_provider_generation": found[
                    "resource_provider_generation"
                ],
            },
        )
        return True

    def _read_root(self) -> Any:
        query = parse.urlencode({"name": self._hostname})
        roots = self._get(f"/resource_providers?{query}")["resource_providers"]
        if not roots:
            raise errors.NoProvider(name=self._hostname)
        return roots[0]

    def _list(self) -> list[tuple[str, str, int]]:
        uuid = self._read_root()["uuid"]
        tree = self._get(f"/resource_providers?in_tree={uuid}")
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

    def _read_one(self, uuid: str) -> tuple[reserving.Inventory, bool]:
        traits = self._get(f"/resource_providers/{uuid}/traits")["traits"]
        return (
            reserving.read(self._get, uuid),
            names.ONE_TIME_USE in traits,
        )

    def read_consumers(self, uuid: str) -> tuple[str, ...]:
        """Read who has something of a device now."""
        path = f"/resource_providers/{uuid}/allocations"
        return tuple(sorted(self._get(path)["allocations"]))

    def reserve(self, uuid: str) -> bool:
        """Have a device offered to nobody; see :func:`reserving.reserve`."""
        return reserving.reserve(self._get, self._send, uuid)

    def offer(self, uuid: str) -> bool:
        """Have a device offered again, unless somebody has quarantined it.

        :returns: whether it is offered.
        """
        return reserving.offer(self._get, self._send, uuid)

    def mark(
        self,
        uuid: str,
        add: frozenset[Mark] = frozenset(),
        remove: frozenset[Mark] = frozenset(),
    ) -> bool:
        """Change what is said of a device; see :mod:`reserving`."""
        return reserving.change_aggregates(
            self._get, self._send, uuid, add, remove
        )
