# SPDX-License-Identifier: Apache-2.0

"""All sets of k free devices of a host, best first."""

from array import array
import bisect
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import seeds
from nova_gpu_filter.topology.found_sets import Found
from nova_gpu_filter.topology.found_sets import FoundSets
from nova_gpu_filter.topology.found_sets import GroupKey
from nova_gpu_filter.topology.found_sets import LinkScore
from nova_gpu_filter.topology.free_twins import FreeTwins
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.tiers import Score
from nova_gpu_filter.topology.tiers import Starts
from nova_gpu_filter.topology.tiers import Tier
from nova_gpu_filter.topology.tiers import pack
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask

MAX_PAIRED: Final = 300
"""Most equally linked sets for which it is worked out how near they are to
devices of other kinds, so many as there are pairs of 24 devices: about 5 ms.
"""


_Place: TypeAlias = tuple[tuple[float, ...], int, int]
"""A negated score, so that the best is the least, and whether the set is in no
packing; then the index of the set among its equals, and their number."""


@dataclasses.dataclass(eq=False)
class Ranking:
    """The sets of k free devices, best first.

    Threads share it: what it remembers are complete results, so that a race
    only computes one twice.
    """

    topology: Topology
    free: int
    k: int
    policy: LinkPolicy | None
    mix: fragmentation.Mix
    beside: tuple[companions.CompanionRequest, ...] = ()
    most_steps: int = enumeration.MAX_STEPS

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(
                f"cannot choose {self.k} devices: must be 1 or more"
            )
        if self.free & ~self.topology.everything:
            raise ValueError(
                f"free devices {self.free:#x}: there are only"
                f" {self.topology.n} devices"
            )
        self._near_first = self._put_near_first()
        self._fragmentation = fragmentation.build_measure_for_many(
            self.topology, self.mix
        )
        self._knows_damage = self._fragmentation.is_exact
        # NICs tell classes of GPUs apart.
        self._twins = FreeTwins(
            self.topology, self.free, are_classes_alike=not self.beside
        )
        self._are_few = (
            math.comb(self.free.bit_count(), self.k) <= enumeration.MAX_SETS
        )
        """Whether every list of sets is one of all there are."""
        # Where NICs count, they do so before the ways over PCIe.
        self._found_sets = FoundSets(
            self.topology,
            self.free,
            self.k,
            self.policy,
            self._twins,
            4 if self.beside else None,
            self.most_steps,
        )
        self.exact = self._found_sets.exact
        """Whether all sets are compared, see :class:`FoundSets`."""
        self._tiers_by_group: dict[GroupKey, list[Tier]] = {}
        self._place_by_set: dict[int, _Place | None] = {}

    def generate_tiers(self) -> Iterator[Tier]:
        """Generate the sets that can be had, equals together, best first.

        A required policy leaves out the sets that violate it.
        """
        for found in self._found_sets.generate():
            for group in found.order:
                yield from self._sort_into_tiers(group, found)

    def _list_tiers(self, group: GroupKey) -> Sequence[Tier]:
        for found in self._found_sets.generate():
            if group in found.groups:
                return self._sort_into_tiers(group, found)
        return ()

    def _sort_into_tiers(
        self, group: GroupKey, found: Found
    ) -> Sequence[Tier]:
        """Sort the sets of one group by what is left to tell them apart."""
        known = self._tiers_by_group.get(group)
        if known is not None:
            return known
        representatives = found.groups[group]
        masks_by_score: dict[Score, list[int]] = {}
        if self.beside:
            for mask in self._expand_near_first(representatives):
                representative = self._twins.find_representative(mask)
                score = self._score(
                    representative,
                    mask,
                    found.score_by_representative[representative],
                )
                masks_by_score.setdefault(score, []).append(mask)
        else:
            # The links of all of them are the same.
            link_score = found.score_by_representative[representatives[0]]
            for spared, masks in self._group_by_spared(representatives):
                score = Score(*link_score[:4], (), *link_score[4:], *spared)
                masks_by_score[score] = masks
        tiers = [
            Tier(
                score,
                masks_by_score[score],
                functools.partial(self._list_sets, masks_by_score[score]),
            )
            for score in sorted(masks_by_score, reverse=True)
        ]
        self._tiers_by_group[group] = tiers
        return tiers

    def _list_sets(
        self, masks: Sequence[int]
    ) -> tuple[Sequence[int], tuple[int, ...]]:
        """List the sets of a tier, and those of a packing.

        :param masks: representatives; with companions the sets themselves.
        """
        most = self.free.bit_count() // self.k
        if self.beside:
            return masks, pack(masks, most)
        sets = self._expand(masks)
        if len(sets) < enumeration.MAX_SETS:
            return sets, pack(sets, most)
        # They may be cut off, and all be of a few low devices.
        packing: tuple[int, ...] = ()
        for representative in masks:
            if self._twins.may_fit(representative, self.free ^ sum(packing)):
                disjoint = self._twins.list_disjoint_sets(representative)
                packing = pack(disjoint, most, packing)
        return sets, pack(sets, most, packing)

    def _score(
        self,
        representative: int,
        mask: int,
        link_score: LinkScore,
    ) -> Score:
        """Judge a set whose links are those of its representative."""
        return Score(
            *link_score[:4],
            self._sum_pairs(mask),
            *link_score[4:],
            *self._measure_spared(representative),
        )

    def _measure_spared(self, mask: int) -> tuple[float, float]:
        ((spared, _),) = self._group_by_spared((mask,))
        return spared

    def _group_by_spared(
        self, masks: Sequence[int]
    ) -> list[tuple[tuple[float, float], list[int]]]:
        """Group sets by the last parts of their scores."""
        if not self._knows_damage:
            return [((0.0, 0.0), list(masks))]
        groups: dict[tuple[float, float], list[int]] = {}
        damages = self._fragmentation.list_damages(self.free, masks)
        for mask, damage in zip(masks, damages, strict=True):
            groups.setdefault(damage, []).append(mask)
        return [
            ((-increase, -loss), masks_)
            for (increase, loss), masks_ in groups.items()
        ]

    def _put_near_first(self) -> Sequence[int]:
        """List the devices that can have a near NIC, the nearest first."""
        near: dict[int, None] = {}
        for asked in self.beside:
            near.update(dict.fromkeys(asked.list_nearest_first(self.free)))
        return tuple(near)

    def _sum_pairs(self, mask: int) -> companions.Pairs:
        """Say how near NICs there are to a set."""
        if not self.beside:
            return ()  # the most frequent case, without the sums
        return companions.add_pairs(
            [by.pair(mask).pairs for by in self.beside]
        )

    def _expand(self, representatives: Iterable[int]) -> Sequence[int]:
        """List the sets that some representatives stand for, within bounds."""
        masks: list[int] = []
        for mask in representatives:
            masks += self._twins.list_sets(
                mask, enumeration.MAX_SETS - len(masks)
            )
            if len(masks) == enumeration.MAX_SETS:
                break
        masks.sort()
        # A tenth of the memory, and there can be thousands.
        return array("Q", masks) if self.topology.n <= 64 else masks

    def _expand_near_first(self, representatives: Iterable[int]) -> list[int]:
        """List the sets that representatives stand for, within less bounds,
        and those that NICs are near to in any case."""
        near = make_mask(self._near_first)
        kinds = sorted(
            representatives, key=lambda mask: -(mask & near).bit_count()
        )[:MAX_PAIRED]
        # Each of the others has at least one.
        limit = MAX_PAIRED - len(kinds) + 1
        streams = [
            iter(self._twins.list_sets(mask, limit, self._near_first))
            for mask in kinds
        ]
        masks: list[int] = []
        while streams and len(masks) < MAX_PAIRED:
            # In turn, so that each has its share.
            for stream in list(streams):
                mask = next(stream, None)
                if mask is None:
                    streams.remove(stream)
                else:
                    masks.append(mask)
        return sorted(masks)

    @property
    def best(self) -> Score | None:
        """The score of the best set; None when none can be had."""
        return next((tier.score for tier in self.generate_tiers()), None)

    def score(self, mask: int) -> Score | None:
        """Judge one set.

        :returns: None when it cannot be had: not k free devices, or against a
            required policy.
        """
        if mask & ~self.free or mask.bit_count() != self.k:
            return None
        representative = self._twins.find_representative(mask)
        links_ = self._found_sets.score(representative)
        if links_ is None:
            return None
        return self._score(representative, mask, links_)

    def list_best_first(
        self, seed: int, limit: int | None = None
    ) -> list[int]:
        """List the sets, best first, equals permuted by the seed: those
        of a packing, then the others.

        :param seed: keeps its order; the int of an instance's UUID, say.
        :param limit: number of sets; None for all (that were looked at).
        :returns: masks.
        """
        masks: list[int] = []
        missing = math.comb(self.topology.n, self.k)
        if limit is not None and limit < missing:
            missing = limit
        pick = seeds.spread(seed).pick
        for tier in self.generate_tiers() if missing > 0 else ():
            packing = tier.packing
            if len(tier.sets) == 1:  # the most frequent case
                masks.append(packing[0])
                missing -= 1
            else:
                masks += pick(packing, missing)
                missing -= len(packing)
            if missing > 0 and len(tier.sets) > len(packing):
                others = [
                    mask
                    for mask in pick(tier.sets, missing + len(packing))
                    if mask not in packing
                ][:missing]
                masks += others
                missing -= len(others)
            if missing <= 0:
                break
        return masks

    def order(self, masks: Iterable[int], seed: int) -> list[int]:
        """Sort given sets as :meth:`list_best_first` would.

        :returns: their indexes, best first, without those that cannot be had.
        """
        step, offset = seeds.spread(seed)
        known = self._place_by_set
        keys: list[tuple[tuple[float, ...], int, int]] = []
        for number, mask in enumerate(masks):
            try:
                place = known[mask]
            except KeyError:
                place = known[mask] = self._place(mask)
            if place is not None:
                score, index, equals = place
                keys.append((score, (index * step + offset) % equals, number))
        keys.sort()
        return [number for _, _, number in keys]

    def _place(self, mask: int) -> _Place | None:
        score = self.score(mask)
        if score is None:
            return None
        negated = tuple(
            -part for part in (*score[:4], *score.pairs, *score[5:])
        )
        sets: Sequence[int] = ()
        packing: tuple[int, ...] = ()
        group = score[:4] if self.beside else (*score[:4], *score[5:7])
        for tier in self._list_tiers(group):
            if tier.score == score:
                if self._is_cut_off(tier, mask):
                    number = enumeration.MAX_SETS
                    return (*negated, 1), number, number + 1
                sets, packing = tier.sets, tier.packing
        if mask in packing:
            return (*negated, 0), packing.index(mask), len(packing)
        index = bisect.bisect_left(sets, mask)
        if index < len(sets) and sets[index] == mask:
            return (*negated, 1), index, len(sets)
        return (*negated, 1), len(sets), len(sets) + 1  # was not looked at

    def _is_cut_off(self, tier: Tier, mask: int) -> bool:
        """Whether a set is not listed, as too many come before it, without
        listing these."""
        if self.beside or self._are_few:
            return False
        starts = tier.starts
        if starts is None:
            starts = tier.starts = self._count_before(tier.masks)
        if starts.number < enumeration.MAX_SETS:
            return False
        mine = self._twins.find_representative(mask)
        place = starts.by_representative.get(mine, starts.number)
        place += self._twins.locate(mask)[0]
        return (
            place >= enumeration.MAX_SETS
            # These are packed, and come first.
            and mask not in self._twins.list_disjoint_sets(mine)
        )

    def _count_before(self, representatives: Iterable[int]) -> Starts:
        """Count the sets that are listed before those of each kind."""
        number = 0
        by_representative: dict[int, int] = {}
        for representative in representatives:
            by_representative[representative] = number
            number += self._twins.count_sets(representative)
            if number >= enumeration.MAX_SETS:
                break
        return Starts(by_representative, number)
