# SPDX-License-Identifier: Apache-2.0

"""The candidates of one tree: good ones first, and one on each NUMA node."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import combine
from nova_gpu_filter.placement import near
from nova_gpu_filter.placement import numa
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import rounds
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import tree_devices
from nova_gpu_filter.placement import trees

_MAX_BASES_JUDGED = 64
"""Choices of single devices of one tree that are sorted by what is near."""

_MOST_PLACES_TRIED = 300
"""Sets of places that are tried in one tree whose classes compete."""

_FEW_UNIONS = 8
"""Up to so many sets of NUMA nodes that can serve a request come right after
the best candidate, so that a small part of an answer has them; there are two
on a host with two nodes."""

_COMBINE_EFFORT = 40
"""What it takes to combine sets of all classes within some places."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One allocation candidate: a base, and a device set for each class."""

    base: trees.BaseAllocation
    sets: tuple[tree_devices.DeviceSet, ...]

    @property
    def key(self) -> object:
        """What differs for different candidates of a tree."""
        return id(self.base), self.sets

    @property
    def granular_providers(self) -> Iterable[str]:
        """Providers that serve a suffixed group."""
        yield from (device for found in self.sets for device in found)
        yield from self.base.granular_providers


class TreeCandidates:
    """The candidates of one tree."""

    def __init__(
        self, asked: candidates_request.Request, tree: trees.Tree
    ) -> None:
        """Nothing is composed yet."""
        self.root = tree.root
        self._bases = tree.base_allocations
        self._asked = asked
        self._classes = asked.question.classes
        self._sizes = tuple(found.size for found in self._classes)
        self._devices = tree_devices.TreeDevices(asked, tree)
        self._companion_links = near.CompanionLinks(
            asked, self._devices, tree.base_allocations
        )
        self._combiner = combine.Combiner(
            asked, self._devices, self._companion_links
        )

    def judge(self) -> sets.Merits:
        """Judge the best device sets that the tree can offer."""
        by_base = [
            self._devices.count_shares_of_all(base) for base in self._bases
        ]
        shares = [
            tuple(map(max, zip(*found, strict=True)))
            for found in zip(*by_base, strict=True)
        ]
        leads = self._companion_links.list_leads(())
        return sets.Merits(
            tuple(
                sets.judge(
                    self._devices.topologies[index],
                    shares[index],
                    size,
                    self._asked.mix,
                    self._companion_links.find_beside(index, shares, ())
                    if index in leads
                    else (),
                )
                for index, size in enumerate(self._sizes)
            ),
            tuple(part for part in leads if isinstance(part, int)),
        )

    def compose(self) -> Iterator[Candidate]:
        """Yield candidates, good ones first, all different.

        As many as are wanted, and one in each least set of NUMA nodes.
        """
        wanted = self._asked.max_sets
        found = self._generate_ordered()
        first = next(found, None)
        if first is None:
            if self._asked.is_truncated and self._has_enough_devices():
                raise query.TooManyError(
                    "too many combinations of the remaining groups"
                )
            return
        yield first
        if wanted is None:
            yield from found
            return
        places = numa.Places(
            self._list_granular_providers(), self._asked.summaries
        )
        unions = self._find_least_unions(places)
        start = self._asked.seed % len(unions) if unions else 0
        missing = dict.fromkeys((*unions[start:], *unions[:start]))
        missing.pop(places.make_mask(first.granular_providers), None)
        seen = {first.key}
        if not unions and not self._devices.compete:
            if not places.are_known:
                yield from self._generate_at_unknown_places(
                    places, found, seen
                )
                return
            # Traits that tell the places of a few devices leave as many sets
            # as none at all, of which any could lie on one node.
            missing = dict.fromkeys(self._list_side_by_side(places))
        number = 1
        if places.are_known and len(missing) <= _FEW_UNIONS:
            for candidate in self._generate_within_each(places, missing, seen):
                number += 1
                yield candidate
            missing = {}
        for candidate in found:
            if number >= wanted:
                break
            if candidate.key not in seen:
                missing.pop(
                    places.make_mask(candidate.granular_providers), None
                )
                seen.add(candidate.key)
                number += 1
                yield candidate
        yield from self._generate_within_each(places, missing, seen)

    def _generate_at_unknown_places(
        self,
        places: numa.Places,
        found: Iterator[Candidate],
        seen: set[object],
    ) -> Iterator[Candidate]:
        """Yield candidates of a tree with too many least sets of places.

        Any of them could lie on one node. Those of devices that Placement
        lists side by side come first: nova-compute reports the devices of a
        host in the order of their addresses.

        :param found: good candidates, which come next.
        :param seen: keys of those that are not to come again.
        """
        more = (
            Candidate(base, self._devices.list_sets(combination))
            for base in self._bases
            if self._asked.effort.spend(numa.MOST_UNIONS)
            for combination in self._combiner.combine(
                base, most=numa.MOST_UNIONS
            )
        )
        left = numa.MOST_UNIONS - 1
        for candidate in itertools.chain(
            self._generate_within_each(
                places, self._list_side_by_side(places), seen.copy()
            ),
            found,
            more,
        ):
            if candidate.key not in seen:
                seen.add(candidate.key)
                yield candidate
                left -= 1
                if not left:
                    return

    def _list_side_by_side(self, places: numa.Places) -> Iterator[int]:
        """List the places of neighbours of the largest class, and all others.

        Rows of neighbours overlap by half. Those of every second device, every
        fourth and so on follow: nodes can take turns in the order of
        addresses.
        """
        index = max(range(len(self._sizes)), key=self._sizes.__getitem__)
        mine = set(self._devices.names[index])
        listed = [name for name in self._asked.summaries if name in mine]
        others = places.make_mask(set(self._list_granular_providers()) - mine)
        size = self._sizes[index]
        step = 1
        while step * size <= len(listed):
            for first in range(step):
                row = listed[first::step]
                for start in range(0, len(row) - size + 1, max(1, size // 2)):
                    yield places.make_mask(row[start : start + size]) | others
            step *= 2

    def _has_enough_devices(self) -> bool:
        """Whether each class could be served, alone and without a base."""
        found = self._devices.count_shares_without_base(self._bases[0])
        return all(
            sum(shares) >= size
            for size, shares in zip(self._sizes, found, strict=True)
        )

    def _generate_ordered(self) -> Iterator[Candidate]:
        """Yield every candidate, good ones first."""
        bases_by_shares: dict[object, list[trees.BaseAllocation]] = {}
        for base in self._bases:
            # With bases that leave the same of devices, the same sets fit; the
            # amounts count if classes compete, or a device is near to some.
            if (
                len(self._bases) == 1
                or self._devices.compete
                or self._companion_links.list_linked_providers(base)
            ):
                key: object = id(base)
            else:
                key = self._devices.count_shares_of_all(base)
            bases_by_shares.setdefault(key, []).append(base)
        groups = list(bases_by_shares.values())
        if len(groups) > 1 and not self._devices.compete:
            groups[:_MAX_BASES_JUDGED] = sorted(
                groups[:_MAX_BASES_JUDGED],
                key=lambda bases: self._companion_links.judge(bases[0]),
                reverse=True,
            )
        # Each gives a part of what is wanted, and more only where others end.
        wanted = self._asked.most_per_tree
        share = None
        if len(groups) > 1 and wanted is not None:
            share = 1 + wanted // len(groups)
        return rounds.take_in_turn(
            [self._combine_with_bases(bases, share) for bases in groups]
        )

    def _combine_with_bases(
        self, bases: Sequence[trees.BaseAllocation], share: int | None
    ) -> Iterator[Candidate]:
        """Yield every combination with every base.

        The first round has each combination once, with bases in turn.

        :param share: how many combinations will do at first; None for all.
        """
        combinations = rounds.drop_repeated(
            itertools.chain.from_iterable(
                self._combiner.combine(bases[0], most=most)
                # Where classes compete, more are searched for.
                for most in (
                    (share,)
                    if share is None or self._devices.compete
                    else (share, None)
                )
            )
        )
        known: list[tuple[tree_devices.DeviceSet, ...]] = []
        for place, combination in enumerate(combinations):
            found = self._devices.list_sets(combination)
            known.append(found)
            yield Candidate(bases[place % len(bases)], found)
        for shift in range(1, len(bases)):
            for place, found in enumerate(known):
                yield Candidate(bases[(place + shift) % len(bases)], found)

    def _list_granular_providers(self) -> Sequence[str]:
        """List every provider that serves a suffixed group, in an order that
        trees of one kind share."""
        return tuple(
            dict.fromkeys(
                (
                    *(d for names in self._devices.names for d in names),
                    *(
                        provider
                        for base in self._bases
                        for provider in sorted(base.granular_providers)
                    ),
                )
            )
        )

    def _find_least_unions(self, places: numa.Places) -> Sequence[int]:
        """List the least sets of places in which there is a candidate."""
        unions: dict[int, None] = {}
        seen: set[object] = set()
        for base in self._bases:
            given = places.make_mask(base.granular_providers)
            capacities = self._list_capacities(places, base)
            if self._devices.compete:
                found = self._search_unions(places, base, given, capacities)
            elif (capacities, given) not in seen:
                seen.add((capacities, given))
                found, tried = numa.find_least_unions(
                    capacities, self._sizes, given
                )
                # Also if the answer was known: it shall not depend on that.
                if not self._asked.effort.spend(tried):
                    return ()
            else:
                continue
            unions.update(dict.fromkeys(found))
        return tuple(unions)

    def _search_unions(
        self,
        places: numa.Places,
        base: trees.BaseAllocation,
        given: int,
        capacities: tuple[tuple[int, ...], ...],
    ) -> Sequence[int]:
        """List the least sets of places for a base, where classes compete."""
        least = numa.count_tried(capacities, self._sizes, given)
        left = iter(range(_MOST_PLACES_TRIED))
        known: dict[int, bool] = {}

        def fits(union: int) -> bool:
            if next(left, None) is None or not self._asked.effort.spend(
                _COMBINE_EFFORT
            ):
                raise numa.TooManyError
            if union not in known:
                known[union] = (
                    numa.can_serve(capacities, self._sizes, union)
                    and self._compose_first_within(places, union, base)
                    is not None
                )
            if least > _MOST_PLACES_TRIED and known[union]:
                # All places do, and more sets than are allowed would follow:
                # what they take is spent, but not done.
                self._asked.effort.spend(
                    (_MOST_PLACES_TRIED - 1) * _COMBINE_EFFORT
                )
                raise numa.TooManyError
            return known[union]

        return numa.search_unions(places.number, fits, given)

    def _list_capacities(
        self, places: numa.Places, base: trees.BaseAllocation
    ) -> tuple[tuple[int, ...], ...]:
        """Return for each place how many groups of each class it can serve."""
        found = [[0] * len(self._classes) for _ in range(places.number)]
        for index, shares in enumerate(
            self._devices.count_shares_of_all(base)
        ):
            size = self._sizes[index]
            for device, share in zip(
                self._devices.names[index], shares, strict=True
            ):
                found[places.get_place(device)][index] += min(share, size)
        return tuple(map(tuple, found))

    def _generate_within_each(
        self, places: numa.Places, unions: Iterable[int], seen: set[object]
    ) -> Iterator[Candidate]:
        """Yield a candidate within each set of places.

        :param seen: keys of those that are not to come again; those that come
            are added. With several bases, one set can lie within another.
        """
        for union in unions:
            for base in self._bases:
                if not self._asked.effort.spend(1):
                    return
                found = self._compose_first_within(places, union, base)
                if found is not None:
                    if found.key not in seen:
                        seen.add(found.key)
                        yield found
                    break

    def _compose_first_within(
        self, places: numa.Places, union: int, base: trees.BaseAllocation
    ) -> Candidate | None:
        """Compose the best candidate of a base within a set of places."""
        if places.make_mask(base.granular_providers) & ~union:
            return None
        within = [
            tuple(union >> places.get_place(device) & 1 for device in names)
            for names in self._devices.names
        ]
        for combination in self._combiner.combine(base, within):
            return Candidate(base, self._devices.list_sets(combination))
        return None
