# SPDX-License-Identifier: Apache-2.0

"""Which device sets of a provider tree to offer, by the links of the devices.

Devices are numbers here (device_links.py), so that hosts of one kind share
every answer.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import math
import random
from typing import Final
from typing import NamedTuple
from typing import TypeAlias

from nova_gpu_filter.placement import rounds
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import merits
from nova_gpu_filter.topology import topology as topologies

IndexSet: TypeAlias = tuple[int, ...]
"""Indexes of devices, ascending; one that serves several groups repeats."""

Score: TypeAlias = tuple[object, ...]
"""What is good about the best set of a tree; the greater is the better."""

REQUIREMENTS: Final = tuple(links.Requirement)
"""What flavors can ask with ``gpu:link``; a query does not say it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Best:
    """What is known of the best set of different devices of a tree."""

    score: Score
    linked: tuple[merits.Linked, ...]
    """How good its links are for each of :data:`REQUIREMENTS`."""
    spared: merits.Spared


@dataclasses.dataclass(frozen=True, slots=True)
class Merits:
    """What is good about the best device sets of a tree."""

    best: tuple[Best, ...]
    """For each class."""
    leads: tuple[int, ...]
    """Classes that may be the GPUs, which the weighers look at."""

    def rank(self, requirement: int | None) -> tuple[object, ...]:
        """Rank the tree as the weighers rank hosts; greater is better.

        :param requirement: index of what ``gpu:link`` of the flavor asks, in
            :data:`REQUIREMENTS`; None for nothing.
        """
        leads = [self.best[index] for index in self.leads]
        scores = [best.score for best in self.best]
        return (
            # Trees without sets of different devices come last.
            [score[0] for score in scores],
            []
            if requirement is None
            else [best.linked[requirement] for best in leads],
            [best.spared for best in leads],
            scores,
        )


_MOST_KEPT = 256
"""Answers with more sets are not cached."""

_MOST_BESIDE = 64
"""Most devices without links that are compared by what is near to them."""


def sort_by_nearness(
    near: companions.Companions,
    chosen: IndexSet,
    options: Sequence[IndexSet],
    shares: tuple[int, ...],
    start: int,
) -> Sequence[IndexSet]:
    """Sort device sets of a class by how near they are to those of another.

    Those with the most one-to-one pairs of near devices come first; one of
    the best there are is the first in any case.

    :param chosen: the device set of the other class.
    :param options: not empty.
    :param shares: how many groups of the class each device can serve.
    :param start: which of equal ones comes first; they go round from there.
    """
    mask = topologies.make_mask(chosen)
    found: list[IndexSet] = []
    for equals in _choose_by_pairs(
        near, mask, tuple(options[:_MOST_KEPT]), shares
    ):
        at = start % len(equals)
        found += (*equals[at:], *equals[:at])
    return (*found, *options[_MOST_KEPT:])


# Hosts of one kind differ in what is free, but share these.
@functools.lru_cache(maxsize=1 << 15)
def _sum_pairs(
    near: companions.Companions, mask: int, option: IndexSet
) -> companions.Pairs:
    capacities = [0] * len(near.cross[0])
    for index in option:
        capacities[index] += 1
    return near.pair(mask, capacities, len(option)).pairs


@functools.lru_cache(maxsize=4096)
def _choose_by_pairs(
    near: companions.Companions,
    mask: int,
    options: tuple[IndexSet, ...],
    shares: tuple[int, ...],
) -> Sequence[Sequence[IndexSet]]:
    size = len(options[0])
    best = near.pair(mask, shares, size)
    equals_by_pairs: dict[companions.Pairs, list[IndexSet]] = {}
    for option in options:
        pairs = _sum_pairs(near, mask, option)
        equals_by_pairs.setdefault(pairs, []).append(option)
    if best.pairs not in equals_by_pairs:
        left = list(shares)
        for index in best.nics:
            left[index] -= 1
        others = (i for i, share in enumerate(left) for _ in range(share))
        missing = itertools.islice(others, size - len(best.nics))
        equals_by_pairs[best.pairs] = [tuple(sorted((*best.nics, *missing)))]
    return [equals_by_pairs[pairs] for pairs in sorted(equals_by_pairs)[::-1]]


def choose(
    topology: topologies.Topology,
    shares: tuple[int, ...],
    size: int,
    limit: int | None,
    seed: int,
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX,
    beside: tuple[companions.CompanionRequest, ...] = (),
) -> Sequence[IndexSet]:
    """Choose device sets: good ones first, few and diverse.

    Sets of different devices come first, as :meth:`choice.Choice.list_diverse`
    lists them. Where a device can serve several groups, every second set has
    as few devices as possible, until each device was in one: a query does not
    say what ``gpu:spread`` of the flavor prefers. All others follow.

    :param shares: how many groups of the class each device can serve.
    :param size: how many groups there are.
    :param limit: how many sets are wanted; None for all.
    :param seed: permutes sets that are equally good.
    :param mix: request sizes to expect; tells equally linked sets apart.
    :param beside: devices of other classes that are chosen with them; of
        equally linked sets those that have them near come first.
    :returns: all different; empty only if no set fits.
    """
    if max(shares, default=0) <= 1 and sum(shares) == size:
        return (tuple(index for index, share in enumerate(shares) if share),)
    asked = _Asked(topology, shares, size, limit, seed, mix, beside)
    is_kept = limit is not None and limit <= _MOST_KEPT
    return (_choose_few if is_kept else _choose)(asked)


@functools.lru_cache(maxsize=8192)
def judge(
    topology: topologies.Topology,
    shares: tuple[int, ...],
    size: int,
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX,
    beside: tuple[companions.CompanionRequest, ...] = (),
) -> Best:
    """Judge the best set of different devices of a tree.

    Whole fabric partitions come first, then the order is that of
    :mod:`topology.ranking`. Sets that need a device several times are worse
    than any.

    :param shares: as for :func:`choose`, and so is ``beside``.
    """
    free = topologies.make_mask(
        i for i, share in enumerate(shares) if share > 0
    )
    if free.bit_count() < size:
        return Best(
            (False,),
            (merits.UNLINKED,) * len(REQUIREMENTS),
            merits.Spared(0.0, 0.0, -free.bit_count()),
        )
    ranking = choice.rank_device_sets(topology, free, size, None, mix, beside)
    if _has_distinct_sets(topology, beside):
        # Sets of the same score are the same in all else.
        (mask,) = ranking.list_best_first(0, 1)
    else:
        mask = topologies.make_mask(topologies.list_devices(free)[:size])
    partitions = topology.list_whole_partitions(size, free)
    return Best(
        (True, bool(partitions), *(ranking.score(mask) or ())),
        tuple(
            merits.judge_links(topology, mask, requirement)
            for requirement in REQUIREMENTS
        ),
        merits.judge_cost(topology, free, mask, mix),
    )


def _has_distinct_sets(
    topology: topologies.Topology,
    beside: tuple[companions.CompanionRequest, ...],
) -> bool:
    """Whether some sets of devices are better than others; not so of VFs or
    parts of GPUs, of which a tree can have hundreds."""
    return (
        len(topology.near_by_level) > 1
        or bool(topology.partitions)
        or (bool(beside) and topology.n <= _MOST_BESIDE)
    )


class _Asked(NamedTuple):
    """What :func:`choose` is asked."""

    topology: topologies.Topology
    shares: tuple[int, ...]
    size: int
    limit: int | None
    seed: int
    mix: fragmentation.Mix
    beside: tuple[companions.CompanionRequest, ...]


def _choose(asked: _Asked) -> Sequence[IndexSet]:
    return tuple(itertools.islice(_generate_ordered(asked), asked.limit))


# All hosts of a kind with the same free devices ask this in one request.
_choose_few = functools.lru_cache(maxsize=4096)(_choose)


def _generate_ordered(asked: _Asked) -> Iterator[IndexSet]:
    """Yield every set that fits, in the order of :func:`choose`."""
    shares, size = asked.shares, asked.size
    free = topologies.make_mask(
        i for i, share in enumerate(shares) if share > 0
    )
    seen: set[IndexSet] = set()
    orders = []
    if free.bit_count() >= size:
        orders.append(_generate_different(asked, free))
    if size > 1 and max(shares, default=0) > 1:
        orders.append(generate_packed(shares, size, asked.seed))
    for found in rounds.take_in_turn(orders):
        if found not in seen:
            seen.add(found)
            yield found
    # Of many devices the topology engine looks at a part of the sets only.
    if max(shares, default=0) > 1 or len(seen) < math.comb(
        free.bit_count(), size
    ):
        for found in generate_all(shares, size):
            if found not in seen:
                yield found


def _generate_different(asked: _Asked, free: int) -> Iterator[IndexSet]:
    """Yield sets of different devices, a packing of them first."""
    size, seed = asked.size, asked.seed
    if _has_distinct_sets(asked.topology, asked.beside):
        ranking = choice.rank_device_sets(
            asked.topology, free, size, None, asked.mix, asked.beside
        )
        for mask in ranking.list_diverse(seed, asked.limit):
            yield tuple(topologies.list_devices(mask))
        return
    devices = topologies.list_devices(free)
    random.Random(seed).shuffle(devices)  # noqa: S311 (no secret)
    packing = [
        tuple(sorted(devices[start : start + size]))
        for start in range(0, len(devices) - size + 1, size)
    ]
    yield from packing
    for combination in itertools.combinations(devices, size):
        found = tuple(sorted(combination))
        if found not in packing:
            yield found


def generate_packed(
    shares: Sequence[int], size: int, seed: int
) -> Iterator[IndexSet]:
    """Yield disjoint sets that have as few devices as possible.

    Devices that have just enough left come first, so that others stay whole.
    """
    devices = [index for index, share in enumerate(shares) if share > 0]
    random.Random(seed).shuffle(devices)  # noqa: S311 (no secret)
    devices.sort(key=shares.__getitem__)
    fewest, missing = 0, size
    while missing > 0 and fewest < len(devices):
        fewest += 1
        missing -= shares[devices[-fewest]]
    start = 0
    while start + fewest <= len(devices):
        window = devices[start : start + fewest]
        if sum(shares[index] for index in window) < size:
            start += 1
            continue
        found: list[int] = []
        # The last has the most left: the others are filled.
        for index in window:
            found += [index] * min(shares[index], size - len(found))
        yield tuple(sorted(found))
        start += fewest


def generate_all(shares: Sequence[int], size: int) -> Iterator[IndexSet]:
    """Yield every multiset of devices within their shares, in order.

    :param size: how many devices are in a set.
    """
    # What the devices from an index on can serve together.
    left = [0]
    for share in reversed(shares):
        left.append(left[-1] + min(share, size))
    left.reverse()

    def extend(start: int, missing: int) -> Iterator[IndexSet]:
        if not missing:
            yield ()
            return
        for index in range(start, len(shares)):
            if left[index] < missing:
                return
            for times in range(min(shares[index], missing), 0, -1):
                for found in extend(index + 1, missing - times):
                    yield (index,) * times + found

    return extend(0, size)
