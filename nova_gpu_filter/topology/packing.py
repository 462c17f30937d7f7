# SPDX-License-Identifier: Apache-2.0

"""How many disjoint good sets of k devices fit into the free devices."""

import abc
from collections.abc import Iterable
import functools
import itertools
from typing import Final

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices

EXACT_DEVICES: Final = 16
"""Up to so many devices that hang together the answer is exact. Where more
do, and are not all linked with each other, it is what a greedy choice finds.
"""

_MEMO_ENTRIES: Final = 1 << EXACT_DEVICES
_MOST_STEPS: Final = 1 << 12
"""Of one greedy choice, or one search for a set; see cliques.Steps."""


def find_offered_link(topology: Topology, k: int) -> links.Link | None:
    """Return the best weakest link that k devices of the host can have.

    :returns: None when the host has fewer devices.
    """
    if k > topology.n:
        return None
    if k < 2:
        return links.SELF
    return next(
        level
        for level in topology.levels
        if cliques.find_set(
            topology.find_neighbors(level),
            topology.everything,
            k,
            cliques.Steps(_MOST_STEPS),
        )
    )


class Packing(abc.ABC):
    """Answers for one topology, one k and one idea of a good set.

    Threads share it: what it remembers are complete results, so that a race
    only computes one twice.
    """

    __slots__ = ("_k", "_memo")

    def __init__(self, k: int) -> None:
        self._k = k
        self._memo: dict[int, int] = {}

    @property
    def is_exact(self) -> bool:
        """Whether :meth:`count` is; else it takes long as well."""
        return True

    def count(self, free: int) -> int:
        """Return the largest number of disjoint good sets."""
        return self.count_left(free, 0)

    @abc.abstractmethod
    def count_left(self, free: int, taken: int) -> int:
        """Return :meth:`count` of what is left when some are taken; fast where
        one after the other is asked of the same free devices."""

    @abc.abstractmethod
    def _list_completions(self, low: int, rest: int) -> Iterable[int]:
        """List what makes a good set of the device ``low`` (a mask), out of
        the devices ``rest``."""

    def list_sets(self, free: int) -> list[int]:
        """List disjoint good sets; where exact, :meth:`count` of them."""
        found: list[int] = []
        left = self.count(free)
        while left and free:
            low = free & -free
            free ^= low
            for completion in self._list_completions(low, free):
                if self.count(free ^ completion) == left - 1:
                    found.append(low | completion)
                    free ^= completion
                    left -= 1
                    break
        return found

    def _search(self, free: int) -> int:
        """Count exactly: the lowest device is in one of the sets, or none."""
        bound = free.bit_count() // self._k
        if not bound:
            return 0
        if (known := self._memo.get(free)) is not None:
            return known
        low = free & -free
        rest = free ^ low
        best = 0
        for completion in self._list_completions(low, rest):
            best = max(best, 1 + self._search(rest ^ completion))
            if best == bound:
                break
        else:
            best = max(best, self._search(rest))
        if len(self._memo) >= _MEMO_ENTRIES:
            self._memo.clear()
        self._memo[free] = best
        return best


class _Partitions(Packing):
    """Good sets are the whole fabric partitions of size k."""

    __slots__ = ("_by_device", "_disjoint", "_inside", "_masks")

    def __init__(self, topology: Topology, k: int) -> None:
        super().__init__(k)
        self._inside: tuple[int, list[int], int] = 0, [], 0
        """The last free devices that some were taken of; the partitions of
        these, and what these have together."""
        self._masks = topology.list_whole_partitions(k, topology.everything)
        # So it is on every HGX board.
        self._disjoint = not any(
            a & b for a, b in itertools.combinations(self._masks, 2)
        )
        self._by_device = [
            next((mask for mask in self._masks if mask >> device & 1), 0)
            for device in range(topology.n)
        ]
        """The first partition of each device; 0 where there is none."""

    def count_left(self, free: int, taken: int) -> int:
        last, inside, within = self._inside
        if last != free:
            inside = [mask for mask in self._masks if not mask & ~free]
            within = functools.reduce(int.__or__, inside, 0)
            self._inside = free, inside, within
        if not self._disjoint:
            left = [mask for mask in inside if not mask & taken]
            if len(left) < 2:
                return len(left)
            return self._search(
                (free ^ taken) & functools.reduce(int.__or__, left)
            )
        number = len(inside)
        taken &= within
        while taken:
            number -= 1
            taken &= ~self._by_device[taken.bit_length() - 1]
        return number

    def _list_completions(self, low: int, rest: int) -> Iterable[int]:
        return [
            mask ^ low
            for mask in self._masks
            if mask & low and not mask & ~(low | rest)
        ]


class _LinkedSets(Packing):
    """Good sets have no link below a floor."""

    __slots__ = ("_by_device", "_components", "_counts", "_near")

    def __init__(self, topology: Topology, k: int, floor: links.Link) -> None:
        super().__init__(k)
        self._counts: tuple[int, list[int], int] = 0, [], 0
        """The last free devices that some were taken of; how many sets there
        are in each component of them, and in all."""
        # One device has no links, so that any floor will do.
        self._near = topology.find_neighbors(floor if k > 1 else links.SYS)
        self._components = [
            (mask, cliques.is_clique(self._near, mask))
            for mask in cliques.list_components(
                self._near, topology.everything
            )
            if mask.bit_count() >= k
        ]
        self._by_device: list[int | None] = [None] * topology.n
        """Which of them each device is in."""
        for index, (mask, _) in enumerate(self._components):
            for device in list_devices(mask):
                self._by_device[device] = index

    @property
    def is_exact(self) -> bool:
        return all(
            all_linked or component.bit_count() <= EXACT_DEVICES
            for component, all_linked in self._components
        )

    def count_left(self, free: int, taken: int) -> int:
        last, counts, left = self._counts
        if last != free:
            counts = [
                self._count_in(index, free & component)
                for index, (component, _) in enumerate(self._components)
            ]
            left = sum(counts)
            self._counts = free, counts, left
        free ^= taken
        while taken:
            low = taken & -taken
            taken ^= low
            index = self._by_device[low.bit_length() - 1]
            if index is not None and counts[index]:
                component, all_linked = self._components[index]
                taken &= ~component
                if all_linked:  # without a call, for there are thousands
                    now = (free & component).bit_count() // self._k
                else:
                    now = self._count_in(index, free & component)
                left += now - counts[index]
        return left

    def _count_in(self, index: int, devices: int) -> int:
        """Count the sets within some devices of a component."""
        number = devices.bit_count()
        if number < self._k:
            return 0
        component, all_linked = self._components[index]
        if all_linked:
            return number // self._k
        if component.bit_count() <= EXACT_DEVICES:
            return self._search(devices)
        return self._count_greedily(devices)

    def _count_greedily(self, free: int) -> int:
        sets = 0
        steps = cliques.Steps(_MOST_STEPS)
        while mask := cliques.find_set(self._near, free, self._k, steps):
            free ^= mask
            sets += 1
        return sets

    def _list_completions(self, low: int, rest: int) -> Iterable[int]:
        near = rest & self._near[low.bit_length() - 1]
        return cliques.generate_sets(
            self._near, near, self._k - 1, cliques.Steps(_MEMO_ENTRIES)
        )


@functools.lru_cache(maxsize=4096)
def pack_partitions(topology: Topology, k: int) -> Packing:
    """Return the packing with whole fabric partitions of k devices."""
    return _Partitions(topology, k)


@functools.lru_cache(maxsize=4096)
def pack_linked_sets(topology: Topology, k: int, floor: links.Link) -> Packing:
    """Return the packing with sets of k devices linked by ``floor`` or
    better."""
    return _LinkedSets(topology, k, floor)


def pack_by_direct_link(topology: Topology, k: int) -> list[Packing]:
    """Return the packings with sets that meet ``gpu:link``, of k devices.

    :returns: for ``nvlink`` and for ``fabric`` one, where the host has such
        links; where it lists partitions of that size, only these count.
    """
    if topology.lists_partitions(k):
        return [pack_partitions(topology, k)] * 2
    if not any(map(links.is_direct, topology.levels)):
        return []
    return [pack_linked_sets(topology, k, links.Requirement.NVLINK.floor)]


def pack_by_default(topology: Topology, k: int) -> Packing | None:
    """Return the packing with sets that meet the default policy of k.

    Whole fabric partitions where the host lists any of that size, else sets
    whose weakest link is as good as the host can offer for k.

    :returns: None when no k devices of the host do.
    """
    if topology.lists_partitions(k):
        return pack_partitions(topology, k)
    floor = find_offered_link(topology, k)
    return None if floor is None else pack_linked_sets(topology, k, floor)
