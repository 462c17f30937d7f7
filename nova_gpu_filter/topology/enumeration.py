# SPDX-License-Identifier: Apache-2.0

"""The sets of k free devices to choose from, one for each kind."""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import sys
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.free_twins import FreeTwins
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices

MAX_SETS: Final = 12870
"""Most sets that are kept: 8 of 16, the largest choice of 16 devices.

Twins count once (see :mod:`nova_gpu_filter.topology.twins`), so that larger
hosts mostly stay below it too.
"""

MAX_STEPS: Final = 40_000
"""Most pairs of devices that are looked at: 10 to 15 ms."""


Sums: TypeAlias = tuple[links.Link, int, links.Link, int]
"""What the links of a set of devices come to: the weakest link, the sum, the
worst way over PCIe and the sum of the ways."""

LinkedSet: TypeAlias = tuple[int, Sums]
"""A set of devices, and what its links come to."""

_ALONE: Final[Sums] = (links.SELF, 0, links.SELF, 0)


def _generate_linked_sets(
    topology: Topology,
    within: int,
    twins: FreeTwins,
    k: int,
    near: Sequence[int],
    better: Sequence[int],
    steps: cliques.Steps,
) -> Iterator[list[LinkedSet]]:
    """Generate one set of each kind whose devices are all near each other.

    :param better: as ``near``, for better pairs; a set all of whose pairs are
        better is left out.
    :param steps: a step is a pair that is looked at.
    :returns: representatives, see :class:`FreeTwins`; low devices first.
    """
    matrix, ways = topology.links, topology.ways
    previous = twins.previous

    def extend(
        mask: int,
        total: int,
        nearness: int,
        is_better: bool,
        candidates: Sequence[tuple[int, Sums]],
    ) -> Iterator[list[LinkedSet]]:
        """Add devices to a set.

        :param is_better: whether all its pairs are better.
        :param candidates: devices, each with what the set and it come to.
        """
        cost = 1 + mask.bit_count()
        missing = k + 1 - cost
        if missing == 1:
            affordable = candidates[: max(steps.left, 0) // cost]
            steps.take(cost * len(candidates))
            yield [
                (mask | 1 << device, sums)
                for device, sums in affordable
                # Else its twin would do as well, and comes first.
                if not previous[device] & ~mask
                and not (is_better and not mask & ~better[device])
            ]
            return
        for place in range(len(candidates) - missing + 1):
            if not steps.take(cost):
                return
            device, sums = candidates[place]
            if previous[device] & ~mask:
                continue
            weakest, new_total, farthest, new_nearness = sums
            more, nearer = new_total - total, new_nearness - nearness
            row, ways_row, near_it = matrix[device], ways[device], near[device]
            left: list[tuple[int, Sums]] = []
            for other, sums in candidates[place + 1 :]:
                if near_it >> other & 1:
                    worst, sum_, worst_way, way_sum = sums
                    link, way = row[other], ways_row[other]
                    if weakest < worst:
                        worst = weakest
                    if link < worst:
                        worst = link
                    if farthest < worst_way:
                        worst_way = farthest
                    if way < worst_way:
                        worst_way = way
                    left.append(
                        (
                            other,
                            (
                                worst,
                                sum_ + more + link,
                                worst_way,
                                way_sum + nearer + way,
                            ),
                        )
                    )
            if len(left) >= missing - 1:
                yield from extend(
                    mask | 1 << device,
                    new_total,
                    new_nearness,
                    is_better and not mask & ~better[device],
                    left,
                )

    candidates = [(device, _ALONE) for device in list_devices(within)]
    return extend(0, 0, 0, any(better), candidates)


def is_exact(twins: FreeTwins, k: int, most_steps: int) -> bool:
    """Whether so many steps suffice to look at one set of each kind."""
    return twins.count_representatives(k) * k <= most_steps


def list_all_sets(
    topology: Topology, free: int, twins: FreeTwins, k: int, floor: links.Link
) -> list[LinkedSet]:
    """List one set of each kind whose links are ``floor`` or better.

    :param free: mask of the free devices.
    """
    near = topology.find_neighbors(floor)
    nothing = (0,) * topology.n
    steps = cliques.Steps(sys.maxsize)
    found = _generate_linked_sets(
        topology, free, twins, k, near, nothing, steps
    )
    return list(itertools.chain.from_iterable(found))


def list_sets_by_link(
    topology: Topology,
    free: int,
    twins: FreeTwins,
    k: int,
    link: links.Link,
    most_steps: int,
    most: int,
) -> list[LinkedSet]:
    """List one set of each kind whose weakest link is a given one.

    The best way over PCIe of these links comes first, so that whoever stops
    early has seen the best.

    :param most_steps: for each way, pairs of devices to look at, at most.
    :param most: sets, at most.
    """
    found: list[LinkedSet] = []
    better: Sequence[int] = (0,) * topology.n
    for level, near in topology.near_by_level:
        if level == link:
            steps = cliques.Steps(most_steps)
            for component in cliques.list_components(near, free):
                for sets in _generate_linked_sets(
                    topology, component, twins, k, near, better, steps
                ):
                    found += sets
                    if len(found) >= most:
                        return found[:most]
        better = near
    return found


def sum_links(topology: Topology, mask: int) -> Sums:
    """Say of one set what its links come to."""
    pairs = list(itertools.combinations(list_devices(mask), 2))
    links_ = [topology.links[a][b] for a, b in pairs]
    ways = [topology.ways[a][b] for a, b in pairs]
    return (
        min(links_, default=links.SELF),
        sum(links_),
        min(ways, default=links.SELF),
        sum(ways),
    )
