# SPDX-License-Identifier: Apache-2.0

"""Put device sets together, within what the devices of a tree can give."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import operator
import random
from typing import TypeAlias
from typing import TypeVar

from nova_gpu_filter.placement import numa
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import fragmentation

_MOST_SEARCHED = 20_000
"""Sets that are tried in one tree to find one that leaves enough for the other
classes; more than the 12,870 sets of 8 out of 16."""

_MOST_SEARCHED_FOR_MORE = 500
"""As many where one combination or more is known and a few more would do."""

_MOST_NEAR = 256
"""Sets of a class among which those near to another's devices are looked for;
more than the 70 sets of 4 out of 8."""

_MOST_LEADS = 3
"""Classes and single devices whose links are put before all others in turn."""

_MOST_RESTS_JUDGED = 64
"""Choices of single devices of one tree that are sorted by what is near."""

_MOST_PLACES_TRIED = 300
"""Sets of places that are tried in one tree whose classes compete."""

_FEW_UNIONS = 8
"""Up to so many sets of NUMA nodes that can serve a request come right after
the best candidate, so that a small part of an answer has them; there are two
on a host with two nodes."""

_Item = TypeVar("_Item")

DeviceSet: TypeAlias = tuple[str, ...]
"""Provider UUIDs, one for each group of a class; a provider that serves
several groups stands several times."""

_Combination: TypeAlias = tuple[sets.IndexSet, ...]
"""A device set for each class, by the indexes of devices in the tree."""

_Within: TypeAlias = Sequence[Sequence[int]]
"""For each class and device: 1 if the device may be used, else 0."""

_Part: TypeAlias = int | str
"""The index of a class, or the provider of a group in no class."""

_Shares: TypeAlias = tuple[int, ...]
"""How many groups of a class each device can serve."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One allocation candidate."""

    rest: trees.Rest
    sets: tuple[DeviceSet, ...]
    """One for each class."""

    @property
    def key(self) -> object:
        """What differs for different candidates of a tree."""
        return id(self.rest), self.sets


@dataclasses.dataclass(frozen=True)
class Composer:
    """Composes the candidates of one request."""

    question: query.Question
    summaries: trees.Summaries
    room: trees.Room
    max_sets: int | None
    """How many candidates of a tree are wanted; None for all. There are more
    where NUMA nodes would be left out."""
    seed: int
    """Permutes sets that are equally good, and trees that are."""
    shuffle_trees: bool = False
    """Whether trees that are equally good come in another order each time."""
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX
    """Request sizes to expect."""

    def compose(self, found: Iterable[trees.Tree]) -> list[Candidate]:
        """Compose up to ``limit`` candidates, in turn from all trees.

        So every tree gets its best one before any gets its second. Trees whose
        best device sets have the best links come first, then those that the
        sets damage least: what the limit cuts off is the worst.

        :param found: as :func:`trees.read` returns them.
        :raises NotComposableError: classes compete for the devices of a tree
            in too many ways.
        """
        tasks = sorted(
            (_TreeTask(self, tree) for tree in found),
            key=lambda task: task.root,
        )
        random.Random(None if self.shuffle_trees else self.seed).shuffle(tasks)  # noqa: S311 (no secret)
        tasks.sort(key=_TreeTask.score, reverse=True)
        streams = [task.candidates() for task in tasks]
        return list(itertools.islice(_in_turn(streams), self.question.limit))

    @functools.cached_property
    def most_per_tree(self) -> int | None:
        """No tree needs more candidates than this; None for all."""
        wanted = (self.max_sets, self.question.limit)
        return min((most for most in wanted if most is not None), default=None)

    @functools.cached_property
    def providers_by_root(self) -> Mapping[str, Sequence[Sequence[str]]]:
        """For each tree and class: the providers with what the class asks."""
        asked = [
            frozenset(resource_class for resource_class, _ in found.resources)
            for found in self.question.classes
        ]
        found: dict[str, list[list[str]]] = {}
        for provider, summary in self.summaries.items():
            resources = summary["resources"].keys()
            for index, resource_classes in enumerate(asked):
                if resources >= resource_classes:
                    root = summary["root_provider_uuid"]
                    if root not in found:
                        found[root] = [[] for _ in asked]
                    found[root][index].append(provider)
        return found

    def shares(
        self, index: int, devices: Sequence[str], taken: "_Taken"
    ) -> _Shares:
        """Return how many groups of a class each device can serve.

        :param index: of the class.
        :param taken: what others get, and so can not be given again.
        """
        group_class = self.question.classes[index]
        most = 1 if self.question.isolate else group_class.size
        return tuple(
            0
            if device not in self.room or device in taken.closed
            else min(
                most,
                *(
                    (
                        self.room[device][resource_class]
                        - taken.amounts.get((device, resource_class), 0)
                    )
                    // amount
                    for resource_class, amount in group_class.resources
                ),
            )
            for device in devices
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """What the rest and the sets of other classes get."""

    amounts: Mapping[tuple[str, str], int]
    """(provider, resource class) -> amount."""
    closed: Collection[str]
    """Providers that serve a suffixed group, where each must have its own."""

    @classmethod
    def by_rest(cls, rest: trees.Rest, isolate: bool) -> "_Taken":
        return cls(
            amounts={
                (provider, resource_class): amount
                for provider, resources in rest.allocations.items()
                for resource_class, amount in resources.items()
            },
            closed=rest.granular_providers if isolate else (),
        )

    def and_by(
        self,
        group_class: query.GroupClass,
        device_set: DeviceSet,
        isolate: bool,
    ) -> "_Taken":
        amounts = dict(self.amounts)
        for device in device_set:
            for resource_class, amount in group_class.resources:
                key = (device, resource_class)
                amounts[key] = amounts.get(key, 0) + amount
        closed = {*self.closed, *device_set} if isolate else self.closed
        return _Taken(amounts, closed)


class _TreeTask:
    """One tree: its devices and what can be composed of them."""

    def __init__(self, composer: Composer, tree: trees.Tree) -> None:
        """Look at the devices that have what a class asks for, free or not."""
        self.root = tree.root
        self._rests = tree.rests
        self._composer = composer
        self._shares_by_rest: dict[int, tuple[_Shares, ...]] = {}
        self._classes = composer.question.classes
        self._isolate = composer.question.isolate
        # A device that cannot serve a class, for its traits or aggregates,
        # has no share in it.
        self._usable = [frozenset(found) for found in tree.devices]
        self._devices: list[Sequence[str]] = []
        self._topologies: list[sets.Topology] = []
        for found in composer.providers_by_root[tree.root]:
            devices, links = sets.arrange(found, composer.summaries)
            self._devices.append(devices)
            self._topologies.append(links)
        self.compete = any(
            not first.isdisjoint(second)
            for first, second in itertools.combinations(self._usable, 2)
        )
        self._near_by_parts: dict[
            tuple[_Part, _Part], companions.Companions | None
        ] = {}

    def score(self) -> tuple[sets.Score, ...]:
        """Judge the best device set of each class; greater is better."""
        by_rest = [self._all_shares(rest) for rest in self._rests]
        shares = [
            tuple(map(max, zip(*found, strict=True)))
            for found in zip(*by_rest, strict=True)
        ]
        leads = self._leads(())
        return tuple(
            sets.score(
                self._topologies[index],
                shares[index],
                group_class.size,
                self._composer.mix,
                self._beside(index, shares, ()) if index in leads else (),
            )
            for index, group_class in enumerate(self._classes)
        )

    def candidates(self) -> Iterator[Candidate]:
        """Yield candidates, good ones first, all different.

        As many as are wanted, and one in each least set of NUMA nodes.
        """
        wanted = self._composer.max_sets
        found = self._ordered()
        if wanted is None:
            yield from found
            return
        first = next(found, None)
        if first is None:
            return
        yield first
        places = _Places(self._tree_devices(), self._composer.summaries)
        unions = self._least_unions(places)
        start = self._composer.seed % len(unions) if unions else 0
        missing = dict.fromkeys((*unions[start:], *unions[:start]))
        missing.pop(places.mask_of(first), None)
        seen = {first.key}
        number = 1
        if places.are_known and len(unions) <= _FEW_UNIONS:
            for candidate in self._within_each(places, missing, seen):
                number += 1
                yield candidate
            missing = {}
        for candidate in found:
            if number >= wanted:
                break
            if candidate.key not in seen:
                missing.pop(places.mask_of(candidate), None)
                seen.add(candidate.key)
                number += 1
                yield candidate
        yield from self._within_each(places, missing, seen)

    def _ordered(self) -> Iterator[Candidate]:
        """Yield every candidate, good ones first."""
        rests_by_shares: dict[object, list[trees.Rest]] = {}
        for rest in self._rests:
            # With rests that leave the same of all devices, the same sets fit.
            # Where classes compete, the exact amounts count too.
            # So they do where one device is near to some of them.
            if (
                len(self._rests) == 1
                or self.compete
                or self._linked_providers(rest)
            ):
                key: object = id(rest)
            else:
                key = self._all_shares(rest)
            rests_by_shares.setdefault(key, []).append(rest)
        groups = list(rests_by_shares.values())
        if len(groups) > 1 and not self.compete:
            groups[:_MOST_RESTS_JUDGED] = sorted(
                groups[:_MOST_RESTS_JUDGED],
                key=lambda rests: self._judge(rests[0]),
                reverse=True,
            )
        # Each gives a part of what is wanted, and more only where others end.
        wanted = self._composer.most_per_tree
        share = None
        if len(groups) > 1 and wanted is not None:
            share = 1 + wanted // len(groups)
        return _in_turn([self._with_rests(rests, share) for rests in groups])

    def _tree_devices(self) -> Sequence[str]:
        """List every provider that serves a suffixed group, in an order that
        trees of one kind share."""
        return tuple(
            dict.fromkeys(
                (
                    *(d for devices in self._devices for d in devices),
                    *(
                        provider
                        for rest in self._rests
                        for provider in sorted(rest.granular_providers)
                    ),
                )
            )
        )

    def _least_unions(self, places: "_Places") -> Sequence[int]:
        """List the least sets of places in which there is a candidate."""
        sizes = tuple(found.size for found in self._classes)
        unions: dict[int, None] = {}
        for rest in self._rests:
            given = places.mask_of_providers(rest.granular_providers)
            if self.compete:
                found = numa.search_unions(
                    places.number,
                    lambda union, rest=rest: (  # type: ignore[misc]
                        self._first_within(places, union, rest) is not None
                    ),
                    given,
                    _MOST_PLACES_TRIED,
                )
            else:
                capacities = [[0] * len(sizes) for _ in range(places.number)]
                for index, shares in enumerate(self._all_shares(rest)):
                    for device, share in zip(
                        self._devices[index], shares, strict=True
                    ):
                        capacities[places.place_of(device)][index] += min(
                            share, sizes[index]
                        )
                found = numa.least_unions(
                    tuple(map(tuple, capacities)), sizes, given
                )
            unions.update(dict.fromkeys(found))
        return tuple(unions)

    def _within_each(
        self, places: "_Places", unions: Iterable[int], seen: set[object]
    ) -> Iterator[Candidate]:
        """Yield a candidate within each set of places.

        :param seen: keys of those that are not to come again; those that come
            are added. With several rests, one set can lie within another.
        """
        for union in unions:
            for rest in self._rests:
                found = self._first_within(places, union, rest)
                if found is not None:
                    if found.key not in seen:
                        seen.add(found.key)
                        yield found
                    break

    def _first_within(
        self, places: "_Places", union: int, rest: trees.Rest
    ) -> Candidate | None:
        """Compose the best candidate of a rest within a set of places."""
        if places.mask_of_providers(rest.granular_providers) & ~union:
            return None
        within = [
            tuple(union >> places.place_of(device) & 1 for device in devices)
            for devices in self._devices
        ]
        for combination in self._combine(rest, within):
            return self._candidate(rest, combination)
        return None

    def _all_shares(self, rest: trees.Rest) -> tuple[_Shares, ...]:
        """Return the shares of all classes, each as if it were alone."""
        known = self._shares_by_rest.get(id(rest))
        if known is None:
            taken = _Taken.by_rest(rest, self._isolate)
            known = self._shares_by_rest[id(rest)] = tuple(
                self._shares(index, rest, taken)
                for index in range(len(self._classes))
            )
        return known

    def _shares(self, index: int, rest: trees.Rest, taken: _Taken) -> _Shares:
        devices = self._devices[index]
        shares = self._composer.shares(index, devices, taken)
        usable = frozenset(rest.devices) if index == 0 else self._usable[index]
        return tuple(
            share if device in usable else 0
            for device, share in zip(devices, shares, strict=True)
        )

    def _with_rests(
        self, rests: Sequence[trees.Rest], share: int | None
    ) -> Iterator[Candidate]:
        """Yield every combination with every rest.

        The first round has each combination once, with rests in turn.

        :param share: how many combinations will do at first; None for all.
        """
        first: Iterable[_Combination] = ()
        if share is not None and not self.compete:
            first = self._combine(rests[0], None, share)
        combinations = _Replay(
            _unique(itertools.chain(first, self._later(rests[0])))
        )
        for shift in range(len(rests)):
            for place, combination in enumerate(combinations):
                rest = rests[(place + shift) % len(rests)]
                yield self._candidate(rest, combination)

    def _later(self, rest: trees.Rest) -> Iterator[_Combination]:
        """Combine only when the first combination is wanted."""
        yield from self._combine(rest)

    def _candidate(
        self, rest: trees.Rest, combination: _Combination
    ) -> Candidate:
        return Candidate(
            rest,
            tuple(
                tuple(devices[index] for index in found)
                for devices, found in zip(
                    self._devices, combination, strict=True
                )
            ),
        )

    def _linked_providers(self, rest: trees.Rest) -> Sequence[str]:
        """List the devices of a rest of which traits tell the links."""
        summaries = self._composer.summaries
        return [
            provider
            for provider in sorted(rest.granular_providers)
            if sets.have_links(provider, summaries)
        ]

    def _leads(self, single: Sequence[str]) -> Sequence[_Part]:
        """List what may be the GPUs: their links count before all.

        A query does not say so. Where some devices have links of their own,
        these are the GPUs; else it may be any that are near to others, and
        the best for each of them are offered.

        :param single: devices of the rest.
        """
        parts: list[_Part] = [*range(len(self._classes)), *single]
        if len(parts) == 1 or self.compete:
            return (0,)
        linked = [part for part in parts if part in self._gpus]
        if linked:
            return linked
        near_to_others = [
            part
            for part in parts
            if any(self._near(part, other) for other in parts if other != part)
        ]
        return near_to_others[:_MOST_LEADS] or (0,)

    @functools.cached_property
    def _gpus(self) -> Collection[_Part]:
        """What may be the GPUs, as some of the devices that can serve the same
        groups have links of their own."""
        summaries = self._composer.summaries
        found: list[_Part] = [
            index
            for index, devices in enumerate(self._devices)
            if sets.have_direct_links(devices, summaries)
        ]
        providers_by_suffix: dict[str, set[str]] = {}
        for rest in self._rests:
            for suffix, providers in rest.mappings.items():
                if suffix:
                    providers_by_suffix.setdefault(suffix, set()).update(
                        providers
                    )
        for served in providers_by_suffix.values():
            if sets.have_direct_links(served, summaries):
                found += served
        return frozenset(found)

    def _devices_of(self, part: _Part) -> Sequence[str]:
        return self._devices[part] if isinstance(part, int) else (part,)

    def _near(self, lead: _Part, part: _Part) -> companions.Companions | None:
        """Return how near two parts are, None where nothing tells that."""
        key = lead, part
        if key not in self._near_by_parts:
            self._near_by_parts[key] = sets.companions_of(
                self._devices_of(lead),
                self._devices_of(part),
                self._composer.summaries,
            )
        return self._near_by_parts[key]

    def _beside(
        self, lead: _Part, shares: Sequence[_Shares], single: Sequence[str]
    ) -> tuple[companions.Beside, ...]:
        """Return what is chosen beside the devices of a part.

        :param shares: of all classes.
        :param single: devices of the rest.
        """
        if self.compete:
            return ()
        asked: list[tuple[_Part, _Shares, int]] = [
            (
                index,
                tuple(min(share, found.size) for share in shares[index]),
                found.size,
            )
            for index, found in enumerate(self._classes)
            if index != lead
        ]
        asked += [
            (provider, (1,), 1) for provider in single if provider != lead
        ]
        return tuple(
            companions.Beside(near, capacities, size)
            for part, capacities, size in asked
            if (near := self._near(lead, part)) is not None
        )

    def _judge(self, rest: trees.Rest) -> tuple[object, ...]:
        """Judge the best that can be had with a rest; greater is better."""
        single = self._linked_providers(rest)
        shares = self._all_shares(rest)
        found: list[tuple[bool, object]] = []
        for lead in self._leads(single):
            beside = self._beside(lead, shares, single)
            if isinstance(lead, int):
                judged: object = sets.score(
                    self._topologies[lead],
                    shares[lead],
                    self._classes[lead].size,
                    self._composer.mix,
                    beside,
                )
            else:
                judged = companions.add_pairs([by.pairs(1) for by in beside])
            # Only scores of one form are compared with each other.
            found.append((isinstance(lead, int), judged))
        return tuple(found)

    def _combine(
        self,
        rest: trees.Rest,
        within: "_Within | None" = None,
        most: int | None = None,
    ) -> Iterable[_Combination]:
        """Combine device sets of all classes, good ones first.

        :param within: the devices that may be used; None for all. Then one
            combination is found if there is one.
        :param most: how many are wanted; None for what the composer wants.
        """
        if within is not None:
            most = 1
        elif most is None:
            most = self._composer.most_per_tree
        leads = self._leads(self._linked_providers(rest))
        combinations: Iterable[_Combination] = itertools.islice(
            _unique(
                _in_turn(
                    [
                        iter(self._combine_beside(lead, rest, within, most))
                        for lead in (leads if most is not None else leads[:1])
                    ]
                )
            ),
            most,
        )
        if not self.compete or most is None:
            return combinations
        # The sets of the first classes were chosen without regard to what
        # they leave for the others.
        known = list(combinations)
        if known and within is not None:
            return known
        return itertools.chain(known, self._search(rest, known, within))

    def _combine_beside(
        self,
        lead: _Part,
        rest: trees.Rest,
        within: "_Within | None",
        most: int | None,
    ) -> Iterable[_Combination]:
        """Combine device sets of all classes, as they go with one of them."""
        classes = range(len(self._classes))
        order = sorted(classes, key=lambda index: index != lead)
        combinations: Iterable[_Combination] = [()]
        for index in order:
            combinations = list(combinations)
            options = [
                self._options(
                    index, rest, combination, place, most, within, lead
                )
                for place, combination in enumerate(combinations)
            ]
            combinations = itertools.islice(
                _extend(combinations, options), most
            )
        if order == list(classes):
            return combinations
        places = [order.index(index) for index in classes]
        return (
            tuple(combination[place] for place in places)
            for combination in combinations
        )

    def _options(
        self,
        index: int,
        rest: trees.Rest,
        combination: _Combination,
        place: int,
        most: int | None,
        within: "_Within | None",
        lead: _Part = 0,
    ) -> Sequence[sets.IndexSet]:
        """List device sets for a class beside those of the classes before.

        :param place: of the combination among others; the list starts at
            another set for each, so that all sets occur early.
        :param lead: what comes first in the combination, or is in the rest.
        """
        near = None
        beside: tuple[companions.Beside, ...] = ()
        shares = self._shares_beside(index, rest, combination, within)
        if index == lead:
            beside = self._beside(
                index,
                [
                    self._shares_beside(other, rest, (), within)
                    for other in range(len(self._classes))
                ],
                self._linked_providers(rest),
            )
        elif not self.compete:
            near = self._near(lead, index)
        options = sets.choose(
            self._topologies[index],
            shares,
            self._classes[index].size,
            # Those near to the others may be far down the list.
            most if near is None or most is None else max(most, _MOST_NEAR),
            self._composer.seed,
            self._composer.mix,
            beside,
        )
        if not options:
            return options
        if near is not None:
            options = sets.nearest_first(
                near,
                combination[0] if isinstance(lead, int) else (0,),
                options,
                shares,
                place,
            )
        else:
            start = place % len(options)
            options = (*options[start:], *options[:start])
        return options[:most]

    def _shares_beside(
        self,
        index: int,
        rest: trees.Rest,
        combination: _Combination,
        within: "_Within | None",
    ) -> _Shares:
        if not self.compete:
            shares = self._all_shares(rest)[index]
        else:
            taken = _Taken.by_rest(rest, self._isolate)
            for group_class, devices, found in zip(
                self._classes, self._devices, combination, strict=False
            ):
                device_set = tuple(devices[index] for index in found)
                taken = taken.and_by(group_class, device_set, self._isolate)
            shares = self._shares(index, rest, taken)
        if within is None:
            return shares
        return tuple(map(operator.mul, shares, within[index]))

    def _search(
        self,
        rest: trees.Rest,
        known: Collection[_Combination],
        within: "_Within | None",
    ) -> Iterator[_Combination]:
        """Find more combinations where classes compete, by trying all sets.

        :param known: those that are not to be found again.
        :raises NotComposableError: none is known, and none of the sets that
            were tried leads to one.
        """
        few_will_do = within is not None or (
            known and self._composer.max_sets is not None
        )
        budget = iter(
            range(_MOST_SEARCHED_FOR_MORE if few_will_do else _MOST_SEARCHED)
        )
        last = len(self._classes) - 1
        seen = frozenset(known)
        none_found = not known

        def beyond(combination: _Combination) -> Iterator[_Combination]:
            index = len(combination)
            if index == last:
                most = self._composer.most_per_tree
                for found in self._options(
                    index, rest, combination, 0, most, within
                ):
                    yield (*combination, found)
                return
            shares = self._shares_beside(index, rest, combination, within)
            for found in sets.every(shares, self._classes[index].size):
                if next(budget, None) is None:
                    return
                yield from beyond((*combination, found))

        for combination in beyond(()):
            if combination not in seen:
                none_found = False
                yield combination
        if none_found and within is None and next(budget, None) is None:
            raise query.NotComposableError("too many combinations")


class _Places:
    """The places of the devices of one tree, see numa.py."""

    def __init__(
        self, providers: Sequence[str], summaries: trees.Summaries
    ) -> None:
        numbers = numa.number_places(
            [summaries[provider]["traits"] for provider in providers]
        )
        self._place_by_provider = dict(zip(providers, numbers, strict=True))
        self.number = max(numbers, default=-1) + 1
        self.are_known = self.number < len(numbers)
        """Whether the traits tell of devices that have one place."""

    def place_of(self, provider: str) -> int:
        """Return the place of a provider."""
        return self._place_by_provider[provider]

    def mask_of_providers(self, providers: Iterable[str]) -> int:
        """Return the places of some providers."""
        mask = 0
        for provider in providers:
            mask |= 1 << self._place_by_provider[provider]
        return mask

    def mask_of(self, candidate: Candidate) -> int:
        """Return the places that a candidate uses."""
        return self.mask_of_providers(
            (
                *(d for device_set in candidate.sets for d in device_set),
                *candidate.rest.granular_providers,
            )
        )


def _extend(
    combinations: Sequence[_Combination],
    options: Sequence[Sequence[sets.IndexSet]],
) -> Iterator[_Combination]:
    """Put each combination together with each of its options.

    In rounds: each combination with its first option, then each with its
    second.
    """
    for turn in range(max(map(len, options), default=0)):
        for combination, found in zip(combinations, options, strict=True):
            if turn < len(found):
                yield (*combination, found[turn])


def _in_turn(streams: Sequence[Iterator[_Item]]) -> Iterator[_Item]:
    """Yield the first item of each stream, then the second of each."""
    left = list(streams)
    while left:
        still_left = []
        for stream in left:
            for item in stream:
                yield item
                still_left.append(stream)
                break
        left = still_left


def _unique(found: Iterable[_Item]) -> Iterator[_Item]:
    """Yield each item once."""
    seen = set()
    for item in found:
        if item not in seen:
            seen.add(item)
            yield item


class _Replay(Iterable[_Item]):
    """Iterates over something again and again, and computes it once."""

    def __init__(self, source: Iterable[_Item]) -> None:
        self._source = iter(source)
        self._seen: list[_Item] = []

    def __iter__(self) -> Iterator[_Item]:
        yield from self._seen
        for item in self._source:
            self._seen.append(item)
            yield item
