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
from nova_gpu_filter.topology import fragmentation

_MOST_SEARCHED = 20_000
"""Sets that are tried in one tree to find one that leaves enough for the other
classes; more than the 12,870 sets of 8 out of 16."""

_MOST_SEARCHED_FOR_MORE = 500
"""As many where one combination or more is known and a few more would do."""

_MOST_COMPANIONS = 256
"""Sets of a further class among which those near to the first class's devices
are looked for; more than the 70 sets of 4 out of 8."""

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
        self._companions = [
            None
            if index == 0 or self.compete
            else sets.Companions.of(
                self._devices[0], devices, composer.summaries
            )
            for index, devices in enumerate(self._devices)
        ]

    def score(self) -> tuple[sets.Score, ...]:
        """Judge the best device set of each class; greater is better."""
        by_rest = [self._all_shares(rest) for rest in self._rests]
        return tuple(
            sets.score(
                self._topologies[index],
                tuple(map(max, zip(*shares, strict=True))),
                self._classes[index].size,
                self._composer.mix,
            )
            for index, shares in enumerate(zip(*by_rest, strict=True))
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
            if len(self._rests) == 1 or self.compete:
                key: object = id(rest)
            else:
                key = self._all_shares(rest)
            rests_by_shares.setdefault(key, []).append(rest)
        return _in_turn(
            [self._with_rests(rests) for rests in rests_by_shares.values()]
        )

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

    def _with_rests(self, rests: Sequence[trees.Rest]) -> Iterator[Candidate]:
        """Yield every combination with every rest.

        The first round has each combination once, with rests in turn.
        """
        combinations = _Replay(self._combine(rests[0]))
        for shift in range(len(rests)):
            for place, combination in enumerate(combinations):
                rest = rests[(place + shift) % len(rests)]
                yield self._candidate(rest, combination)

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

    def _combine(
        self, rest: trees.Rest, within: "_Within | None" = None
    ) -> Iterable[_Combination]:
        """Combine device sets of all classes, good ones first.

        :param within: the devices that may be used; None for all. Then one
            combination is found if there is one.
        """
        most = self._composer.most_per_tree if within is None else 1
        combinations: Iterable[_Combination] = [()]
        for index in range(len(self._classes)):
            combinations = list(combinations)
            options = [
                self._options(index, rest, combination, place, most, within)
                for place, combination in enumerate(combinations)
            ]
            combinations = itertools.islice(
                _extend(combinations, options), most
            )
        if not self.compete or most is None:
            return combinations
        # The sets of the first classes were chosen without regard to what
        # they leave for the others.
        known = list(combinations)
        if known and within is not None:
            return known
        return itertools.chain(known, self._search(rest, known, within))

    def _options(
        self,
        index: int,
        rest: trees.Rest,
        combination: _Combination,
        place: int,
        most: int | None,
        within: "_Within | None",
    ) -> Sequence[sets.IndexSet]:
        """List device sets for a class beside those of the classes before.

        :param place: of the combination among others; the list starts at
            another set for each, so that all sets occur early.
        """
        companions = self._companions[index]
        options = sets.choose(
            self._topologies[index],
            self._shares_beside(index, rest, combination, within),
            self._classes[index].size,
            # Those near to the others may be far down the list.
            most
            if companions is None or most is None
            else max(most, _MOST_COMPANIONS),
            self._composer.seed,
            self._composer.mix,
        )
        if not options:
            return options
        start = place % len(options)
        options = (*options[start:], *options[:start])
        if companions is not None:
            options = companions.nearest_first(combination[0], options)
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
