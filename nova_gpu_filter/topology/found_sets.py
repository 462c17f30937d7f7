# SPDX-License-Identifier: Apache-2.0

"""The sets of k free devices by their links, found when they are asked for."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
from typing import NamedTuple
from typing import TypeAlias

from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.enumeration import LinkedSet
from nova_gpu_filter.topology.free_twins import FreeTwins
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import Topology

LinkScore: TypeAlias = tuple[bool, bool, links.Link, int, links.Link, int]
"""The parts of a :class:`tiers.Score` that the links decide: whether a set
meets the policy, whether it is a whole partition where it has to be, the
weakest link, the sum, the farthest way over PCIe and the sum of the ways."""

GroupKey: TypeAlias = tuple[bool | links.Link | int, ...]
"""A link score, or the first parts of it."""


class Found(NamedTuple):
    """Sets that were found at once, one of each kind."""

    score_by_representative: dict[int, LinkScore]
    groups: dict[GroupKey, list[int]]
    order: list[GroupKey]
    """The groups, best first."""


@dataclasses.dataclass(eq=False)
class FoundSets:
    """The sets to choose from: those that were looked for are kept.

    Threads share it: what it remembers are complete results, so that a race
    only computes one twice.
    """

    topology: Topology
    free: int
    """Mask of the free devices."""
    k: int
    policy: LinkPolicy | None
    twins: FreeTwins
    group_length: int | None
    """How many parts of the link scores of a group are equal; None: all."""
    most_steps: int
    """Pairs of devices to look at, at most."""

    def __post_init__(self) -> None:
        """Prepare; nothing is looked for yet."""
        self._partitions = frozenset(
            self.topology.list_whole_partitions(self.k, self.free)
        )
        self._lists_partitions = self.topology.lists_partitions(self.k)
        required = None
        if self.policy is not None and self.policy.required:
            required = self.policy.link
        self._is_required = required is not None
        self._wants_partition = required is links.Requirement.FABRIC
        self._floor = links.SYS if required is None else required.floor
        self.exact = self._wants_partition or enumeration.is_exact(
            self.twins, self.k, self.most_steps
        )
        """Whether all sets are compared. If not, they are the first
        :data:`enumeration.MAX_SETS` in the order of the weakest link that are
        found in so many steps; that of the first is the best there is unless
        the links have no order at all."""
        self._found: tuple[Found, ...] = ()

    def generate(self) -> Iterator[Found]:
        """Generate the sets in batches, the best first.

        Where not all are looked at, those with the best weakest link come
        first, and mostly are all that is asked for.
        """
        found: tuple[Found, ...] = ()
        for place in itertools.count():
            known = self._found
            if place < len(known):
                found = known[: place + 1]
            else:
                sets = self._enumerate(found)
                if sets is None:
                    return
                self._found = found = (*found, self._judge(sets))
            yield found[place]

    def score(self, representative: int) -> LinkScore | None:
        """Judge the links of a representative.

        :returns: None when it cannot be had: against a required policy.
        """
        for found in self.generate() if self.exact else self._found:
            if representative in found.score_by_representative:
                return found.score_by_representative[representative]
        if self.exact:
            return None
        score = self._score_links(
            enumeration.sum_links(self.topology, representative),
            representative in self._partitions,
        )
        return None if self._is_required and not score[0] else score

    def _enumerate(self, found: Sequence[Found]) -> list[LinkedSet] | None:
        """List the sets that come next; None when there are no more.

        :param found: those before.
        """
        if found and (self.exact or self._lists_partitions):
            return None
        if self._wants_partition:
            return self._add_partitions([])
        if self.exact:
            return enumeration.list_all_sets(
                self.topology, self.free, self.twins, self.k, self._floor
            )
        levels = [
            link
            for link, _ in self.topology.near_by_level
            if link >= self._floor
        ]
        by_link = list(dict.fromkeys(levels))
        if self._lists_partitions:
            sets: list[LinkedSet] = []
            for link in by_link:
                sets += self._enumerate_by_link(link, len(levels), len(sets))
            # These come first, so they must not be missed.
            return self._add_partitions(sets)
        if len(found) == len(by_link):
            return None
        before = sum(len(batch.score_by_representative) for batch in found)
        return self._enumerate_by_link(
            by_link[len(found)], len(levels), before
        )

    def _enumerate_by_link(
        self, link: links.Link, levels: int, before: int
    ) -> list[LinkedSet]:
        """List sets with this weakest link.

        :param levels: how many share the steps: sets with bad links are found
            at once, as sets with good links may not be where there are none.
        :param before: how many sets were found with better links.
        """
        return enumeration.list_sets_by_link(
            self.topology,
            self.free,
            self.twins,
            self.k,
            link,
            self.most_steps // levels,
            enumeration.MAX_SETS - before,
        )

    def _add_partitions(self, sets: list[LinkedSet]) -> list[LinkedSet]:
        """Add those of the whole partitions that are missing."""
        missed = set(map(self.twins.find_representative, self._partitions))
        missed -= {mask for mask, _ in sets}
        return sets + [
            (mask, enumeration.sum_links(self.topology, mask))
            for mask in missed
        ]

    def _judge(self, sets: Iterable[LinkedSet]) -> Found:
        """Judge the links of some sets."""
        groups: dict[GroupKey, list[int]] = {}
        score_by_representative: dict[int, LinkScore] = {}
        # Thousands of sets have few scores.
        known: dict[
            tuple[enumeration.Sums, bool], tuple[LinkScore, list[int]]
        ] = {}
        for mask, sums in sets:
            case = sums, mask in self._partitions
            if case not in known:
                score = self._score_links(*case)
                if self._is_required and not score[0]:
                    continue
                group = groups.setdefault(score[: self.group_length], [])
                known[case] = score, group
            score, group = known[case]
            score_by_representative[mask] = score
            group.append(mask)
        return Found(
            score_by_representative, groups, sorted(groups, reverse=True)
        )

    def _score_links(
        self, sums: enumeration.Sums, is_partition: bool
    ) -> LinkScore:
        return (
            self.policy is None
            or satisfaction.meets(self.policy.link, sums[0], is_partition),
            is_partition or not self._lists_partitions,
            *sums,
        )
