# SPDX-License-Identifier: Apache-2.0

"""The devices of one host and how they are linked: plain, immutable data."""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import itertools
from typing import TypeAlias

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link


def list_devices(mask: int) -> list[int]:
    """List the devices of a set in ascending order."""
    devices = []
    while mask:
        low = mask & -mask
        devices.append(low.bit_length() - 1)
        mask ^= low
    return devices


def make_mask(devices: Iterable[int]) -> int:
    """Make the set that has these devices."""
    mask = 0
    for device in devices:
        mask |= 1 << device
    return mask


Matrix: TypeAlias = tuple[tuple[Link, ...], ...]
"""What each pair of devices has, rows in device order."""


def get_numa_link(a: int | None, b: int | None) -> Link:
    """Return the way over PCIe of two devices of which nothing else is known
    than their NUMA nodes."""
    return links.NODE if a is not None and a == b else links.SYS


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class FabricPartition:
    """A set of devices that Fabric Manager can activate together."""

    id: int
    size: int
    """Devices it has on the host, at least 1."""
    mask: int
    """Those of them that the topology covers; the rest is not visible."""

    @property
    def is_whole(self) -> bool:
        """Whether all its devices are visible."""
        return self.mask.bit_count() == self.size


@dataclasses.dataclass(frozen=True)
class Topology:
    """The visible devices of a host, their links and fabric partitions.

    Visible are all devices of a provider tree, but only the free ones of a
    scheduler's host state. Hash and equality go by value: hosts of one kind
    are one key of every cache.
    """

    links: Matrix
    """Best link of each pair: symmetric, :data:`links.SELF` on its diagonal.
    """
    partitions: tuple[FabricPartition, ...] = ()
    """In the order of their ids, each with at least one visible device."""
    numa: tuple[int | None, ...] = ()
    """NUMA node of each device; None where the host does not tell.

    Only says where devices are; what it means for a pair is in ``links``.
    """
    ways: Matrix = ()
    """Way over PCIe of each pair, which also those with a direct link have;
    where they have none, the same as in ``links``."""
    _hash: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the shape and keep the hash, since caches ask for it often.

        :raises ValueError: no symmetric matrix, or a partition or NUMA node
            of devices that do not exist.
        """
        n = len(self.links)
        for matrix in (self.links, self.ways):
            _check_matrix(matrix, n)
        for a, b in itertools.combinations(range(n), 2):
            link, way = self.links[a][b], self.ways[a][b]
            if links.is_direct(way) or (
                link != way and not links.is_direct(link)
            ):
                raise ValueError(
                    f"pair {a}, {b} has {links.name(link)}, but over PCIe"
                    f" {links.name(way)}"
                )
        if len(self.numa) != n:
            raise ValueError(f"{len(self.numa)} NUMA nodes, {n} devices")
        for partition in self.partitions:
            if partition.mask >> n or not partition.mask:
                raise ValueError(f"{partition} names no or unknown devices")
            if partition.mask.bit_count() > partition.size:
                raise ValueError(f"{partition} has more devices than its size")
        object.__setattr__(
            self,
            "_hash",
            hash((self.links, self.ways, self.partitions, self.numa)),
        )

    def __hash__(self) -> int:
        """Return the hash that was computed once."""
        return self._hash

    @classmethod
    def from_matrix(
        cls,
        matrix: Sequence[Sequence[Link]],
        partitions: Iterable[FabricPartition] = (),
        numa: Sequence[int | None] | None = None,
        ways: Sequence[Sequence[Link]] | None = None,
    ) -> "Topology":
        """Make a topology of a pair matrix, whatever its diagonal says.

        :param matrix: the best link of each pair, rows in device order.
        :param partitions: in any order.
        :param numa: NUMA nodes in device order; None when nothing is known.
        :param ways: the way over PCIe of each pair; None to take that of
            pairs with direct links from their NUMA nodes.
        :raises ValueError: see :meth:`__post_init__`.
        """
        nodes = (None,) * len(matrix) if numa is None else tuple(numa)
        if ways is None:
            ways = [
                [
                    get_numa_link(nodes[a], nodes[b])
                    if links.is_direct(link)
                    else link
                    for b, link in enumerate(row)
                ]
                for a, row in enumerate(matrix)
            ]
        return cls(
            links=_add_self(matrix),
            partitions=tuple(sorted(partitions)),
            numa=nodes,
            ways=_add_self(ways),
        )

    @property
    def n(self) -> int:
        """Number of devices."""
        return len(self.links)

    @property
    def everything(self) -> int:
        """The set of all devices."""
        return (1 << len(self.links)) - 1

    @functools.cached_property
    def levels(self) -> tuple[Link, ...]:
        """The best links of two devices that occur, best first."""
        pairs = itertools.combinations(range(self.n), 2)
        found = {self.links[a][b] for a, b in pairs}
        return tuple(sorted(found, reverse=True))

    @functools.cached_property
    def near_by_level(self) -> tuple[tuple[Link, tuple[int, ...]], ...]:
        """The pairs of (best link, way over PCIe) that occur, best first.

        For each the link, and for each device the mask of those it has as
        good a pair with, or a better one.
        """
        both = [
            list(zip(row, ways, strict=True))
            for row, ways in zip(self.links, self.ways, strict=True)
        ]
        pairs = itertools.combinations(range(self.n), 2)
        levels = {both[a][b] for a, b in pairs}
        return tuple(
            (
                level[0],
                tuple(
                    make_mask(b for b, pair in enumerate(row) if pair >= level)
                    & ~(1 << a)
                    for a, row in enumerate(both)
                ),
            )
            for level in sorted(levels, reverse=True)
        )

    def find_weakest_link(self, mask: int) -> Link:
        """Return the worst link of a set: the speed of a ring through it.

        A set of fewer than two devices has :data:`links.SELF`.
        """
        pairs = itertools.combinations(list_devices(mask), 2)
        return min((self.links[a][b] for a, b in pairs), default=links.SELF)

    def sum_links(self, mask: int) -> int:
        """Return the sum of the links of all pairs of a set."""
        pairs = itertools.combinations(list_devices(mask), 2)
        return sum(self.links[a][b] for a, b in pairs)

    def find_neighbors(self, floor: Link) -> tuple[int, ...]:
        """Return for each device those linked to it by ``floor`` or better."""
        return _find_neighbors(self, floor)

    def lists_partitions(self, size: int) -> bool:
        """Whether the host has fabric partitions of that many devices, whole
        or not: it then activates nothing else."""
        return any(partition.size == size for partition in self.partitions)

    def list_whole_partitions(self, size: int, free: int) -> list[int]:
        """List the fabric partitions of that size all of whose devices are
        free, as masks in the order of their ids."""
        return [
            partition.mask
            for partition in self.partitions
            if partition.size == size
            and partition.is_whole
            and not partition.mask & ~free
        ]

    def is_whole_partition(self, mask: int) -> bool:
        """Whether a set is one whole fabric partition."""
        return mask in self.list_whole_partitions(mask.bit_count(), mask)

    def list_local_masks(self) -> list[int]:
        """List the sets of all devices of a NUMA node, as their numbers tell,
        or links: no way between them goes from one node to another."""
        masks = dict.fromkeys(self.group_by_numa_node().values())
        if None in self.numa:
            near = find_neighbors(self.ways, links.NODE)
            masks.update(
                dict.fromkeys(cliques.list_components(near, self.everything))
            )
        return list(masks)

    def group_by_numa_node(self) -> dict[int, int]:
        """Group the devices whose NUMA node is known; nodes ascending."""
        masks: dict[int, int] = {}
        for device, node in enumerate(self.numa):
            if node is not None:
                masks[node] = masks.get(node, 0) | 1 << device
        return dict(sorted(masks.items()))


@functools.lru_cache(maxsize=4096)
def _find_neighbors(topology: Topology, floor: Link) -> tuple[int, ...]:
    return find_neighbors(topology.links, floor)


def find_neighbors(matrix: Matrix, floor: Link) -> tuple[int, ...]:
    """Return for each device those that have ``floor`` or better with it."""
    return tuple(
        make_mask(b for b, link in enumerate(row) if link >= floor and b != a)
        for a, row in enumerate(matrix)
    )


def _add_self(matrix: Sequence[Sequence[Link]]) -> Matrix:
    return tuple(
        tuple(links.SELF if a == b else link for b, link in enumerate(row))
        for a, row in enumerate(matrix)
    )


def _check_matrix(matrix: Matrix, n: int) -> None:
    if len(matrix) != n or any(len(row) != n for row in matrix):
        raise ValueError(f"the link matrix of {n} devices is not square")
    for a, b in itertools.combinations(range(n), 2):
        if matrix[a][b] != matrix[b][a]:
            raise ValueError(f"links of pair {a}, {b} differ by direction")
    if any(matrix[a][a] != links.SELF for a in range(n)):
        raise ValueError("the diagonal of the link matrix is not SELF")
