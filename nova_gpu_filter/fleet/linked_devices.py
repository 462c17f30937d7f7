# SPDX-License-Identifier: Apache-2.0

"""The devices of one host that one alias means: their links, what is free."""

from collections.abc import Iterable
import dataclasses
import functools

from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask


@dataclasses.dataclass(frozen=True)
class LinkedDevices:
    """Devices as bits of a topology, in the order of their addresses.

    A PF with VFs is one device here, free while one of its VFs is.
    """

    devices: tuple[model.Device, ...]
    topology: Topology
    free: int
    """Mask of those that can be had."""
    problem: str | None = None
    """Why their links are not known, if their traits cannot be read."""

    @classmethod
    def from_devices(cls, devices: Iterable[model.Device]) -> "LinkedDevices":
        """Read the links of devices of one host; traits that cannot be read
        leave all of them unlinked, as in the scheduler."""
        devices = tuple(devices)
        free = make_mask(
            bit for bit, device in enumerate(devices) if device.is_free
        )
        problem = None
        try:
            topology = host_topologies.build_from_traits(
                [(device.name, device.traits, None) for device in devices]
            )
        except codec.LinkTextError as exc:
            problem = str(exc)
            topology = host_topologies.build_from_traits(
                [(device.name, (), None) for device in devices]
            )
        return cls(devices, topology, free, problem)

    def list_addresses(self, mask: int) -> tuple[str, ...]:
        """List the addresses of a set."""
        return tuple(
            device.address
            for bit, device in enumerate(self.devices)
            if mask >> bit & 1
        )

    @property
    def are_shared(self) -> bool:
        """Whether several servers can have one of them, such as a PF with VFs:
        then links do not matter, which VFs have none of."""
        return any(device.amount.capacity > 1 for device in self.devices)

    @property
    def knows_links(self) -> bool:
        """Whether any two of the devices are linked, as far as we know."""
        topology = self.topology
        return bool(topology.partitions) or any(
            level > links.SYS for level in topology.levels
        )

    def measure_largest_by_link(self) -> dict[Requirement, int]:
        """Return how large a free set with each link can be, strictest first,
        for the links that some two devices of the host have, free or not."""
        return dict(_measure_largest_by_link(self.topology, self.free))

    def count_partitions(self) -> dict[int, tuple[int, int]]:
        """Count the fabric partitions: size -> (all free, all there are)."""
        topology = self.topology
        sizes = {partition.size for partition in topology.partitions}
        return {
            size: (
                len(topology.list_whole_partitions(size, self.free)),
                len(topology.list_whole_partitions(size, topology.everything)),
            )
            for size in sorted(sizes, reverse=True)
        }

    def measure_fragmentation(
        self, mix: fragmentation.Mix = fragmentation.DEFAULT_MIX
    ) -> float:
        """Return F, in GPUs; see :mod:`nova_gpu_filter.topology`."""
        return fragmentation.build_measure(self.topology, mix).measure(
            self.free
        )


def list_numa_nodes(devices: Iterable[model.Device]) -> list[int | None]:
    """Return the number of each device's ``node`` group; None without one."""
    found: list[int | None] = []
    for device in devices:
        try:
            groups = codec.parse_traits(device.name, device.traits).groups
        except codec.LinkTextError:
            groups = ()
        numbers = [number for link, number in groups if link == links.NODE]
        found.append(numbers[0] if len(numbers) == 1 else None)
    return found


# Hosts of a kind with the same free devices are alike: a thousand hosts have
# few answers.
@functools.lru_cache(maxsize=8192)
def _measure_largest_by_link(
    topology: Topology, free: int
) -> tuple[tuple[Requirement, int], ...]:
    found = []
    best = topology.levels[0] if topology.levels else None
    for requirement in Requirement:
        if requirement is Requirement.FABRIC:
            there = bool(topology.partitions)
        else:
            there = best is not None and best >= requirement.floor
        if there:
            mask = satisfaction.find_largest_set(topology, free, requirement)
            found.append((requirement, mask.bit_count()))
    return tuple(found)
