# SPDX-License-Identifier: Apache-2.0

"""The sets of k free devices to choose from, one for each kind."""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import sys
from typing import Final
from typing import NamedTuple

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import devices_of
from nova_gpu_filter.topology.twins import FreeTwins

MAX_SETS: Final = 12870
"""Most sets that are kept: 8 of 16, the largest choice of 16 devices.

Twins count once (see :mod:`nova_gpu_filter.topology.twins`), so that larger
hosts mostly stay below it too.
"""

MAX_STEPS: Final = 40_000
"""Most pairs of devices that are looked at: about 30 ms."""


class LinkedSet(NamedTuple):
    """A set of devices and what its links come to."""

    mask: int
    weakest: Link
    total: int
    farthest: Link
    """The worst way over PCIe."""
    nearness: int
    """Sum of the ways over PCIe."""


def all_sets(
    topology: Topology, free: int, twins: FreeTwins, k: int, floor: Link
) -> Iterator[LinkedSet]:
    """Generate one set of each kind whose links are ``floor`` or better.

    :param free: mask of the free devices.
    :returns: representatives, see :class:`FreeTwins`; low devices first.
    """
    steps = cliques.Steps(sys.maxsize)
    near = topology.neighbors(floor)
    return _linked_sets(topology, free, twins, k, near, steps)


def _linked_sets(
    topology: Topology,
    free: int,
    twins: FreeTwins,
    k: int,
    near: Sequence[int],
    steps: cliques.Steps,
) -> Iterator[LinkedSet]:
    """Generate one set of each kind whose devices are all near each other.

    :param steps: a step is a pair that is looked at.
    """
    matrix, ways = topology.links, topology.ways
    previous = twins.previous

    def extend(
        mask: int,
        devices: tuple[int, ...],
        candidates: int,
        weakest: Link,
        total: int,
        farthest: Link,
        nearness: int,
    ) -> Iterator[LinkedSet]:
        missing = k - len(devices)
        cost = 1 + len(devices)
        while candidates.bit_count() >= missing and steps.take(cost):
            low = candidates & -candidates
            candidates ^= low
            device = low.bit_length() - 1
            if previous[device] & ~mask:
                continue  # its twin would do as well, and comes first
            row, ways_row = matrix[device], ways[device]
            worst, sum_ = weakest, total
            worst_way, way_sum = farthest, nearness
            for other in devices:
                link, way = row[other], ways_row[other]
                sum_ += link
                way_sum += way
                if link < worst:
                    worst = link
                if way < worst_way:
                    worst_way = way
            if missing == 1:
                yield LinkedSet(mask | low, worst, sum_, worst_way, way_sum)
            else:
                yield from extend(
                    mask | low,
                    (*devices, device),
                    candidates & near[device],
                    worst,
                    sum_,
                    worst_way,
                    way_sum,
                )

    return extend(0, (), free, links.SELF, 0, links.SELF, 0)


def best_first(
    topology: Topology,
    free: int,
    twins: FreeTwins,
    k: int,
    floor: Link,
    most_steps: int = MAX_STEPS,
) -> Iterator[LinkedSet]:
    """Generate as :func:`all_sets` does, but in the order of the weakest
    link, of equals by its way over PCIe, so that whoever stops early has seen
    the best."""
    better: Sequence[int] = (0,) * topology.n
    levels = [by for by in topology.near_by_level() if by[0] >= floor]
    for _, near in levels:
        # Each has its share: sets with bad links are found at once, as sets
        # with good links may not be where there are none.
        steps = cliques.Steps(most_steps // len(levels))
        for component in cliques.components(near, free):
            for found in _linked_sets(
                topology, component, twins, k, near, steps
            ):
                if not cliques.is_clique(better, found.mask):
                    yield found
        better = near


def enumerate_sets(
    topology: Topology,
    free: int,
    twins: FreeTwins,
    k: int,
    floor: Link,
    most_steps: int = MAX_STEPS,
) -> tuple[list[LinkedSet], bool]:
    """Find the sets to choose from.

    :param most_steps: pairs of devices to look at, at most.
    :returns: the sets, and whether these are all. If not, they are the first
        :data:`MAX_SETS` in the order of the weakest link that are found in
        ``most_steps``; that of the first is the best there is unless the
        links have no order at all.
    """
    if twins.count_representatives(k) * k <= most_steps:
        return list(all_sets(topology, free, twins, k, floor)), True
    found = itertools.islice(
        best_first(topology, free, twins, k, floor, most_steps), MAX_SETS
    )
    return list(found), False


def linked_set(topology: Topology, mask: int) -> LinkedSet:
    """Say of one set what its links come to."""
    pairs = list(itertools.combinations(devices_of(mask), 2))
    links_ = [topology.links[a][b] for a, b in pairs]
    ways = [topology.ways[a][b] for a, b in pairs]
    return LinkedSet(
        mask,
        min(links_, default=links.SELF),
        sum(links_),
        min(ways, default=links.SELF),
        sum(ways),
    )
