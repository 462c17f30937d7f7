# SPDX-License-Identifier: Apache-2.0

"""Combine device sets of all classes, for one tree."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import near
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import rounds
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import tree_devices
from nova_gpu_filter.placement import trees

_MOST_SEARCHED = 20_000
"""Sets that are tried in one tree to find one that leaves enough for the other
classes; more than the 12,870 sets of 8 out of 16."""

_MOST_SEARCHED_FOR_MORE = 500
"""As many where one combination or more is known and a few more would do."""

_MOST_NEAR = 256
"""Sets of a class among which those near to another's devices are looked for;
more than the 70 sets of 4 out of 8."""

_STEP_EFFORT = 20
"""What it takes to see what one set of a class leaves for the others."""


class Combiner:
    """Combines the devices of one tree."""

    def __init__(
        self,
        asked: candidates_request.Request,
        found: tree_devices.TreeDevices,
        companion_links: near.CompanionLinks,
    ) -> None:
        """Take the devices of a tree."""
        self._asked = asked
        self._devices = found
        self._companion_links = companion_links
        self._classes = asked.question.classes
        self._last_choice: tuple[object, Sequence[sets.IndexSet]] = (None, ())

    def combine(
        self,
        base: trees.BaseAllocation,
        within: tree_devices.Within | None = None,
        most: int | None = None,
    ) -> Iterable[tree_devices.Combination]:
        """Combine device sets of all classes, good ones first.

        :param within: the devices that may be used, for one combination; None
            for all.
        :param most: how many will be looked at; None: what a tree needs.
        """
        if within is not None:
            most = 1
        elif most is None:
            most = self._asked.most_per_tree
        if self._devices.compete and not self._devices.may_fit(base, within):
            return ()
        leads = self._companion_links.list_leads(
            self._companion_links.list_linked_providers(base)
        )
        combinations: Iterable[tree_devices.Combination] = itertools.islice(
            rounds.drop_repeated(
                rounds.take_in_turn(
                    [
                        iter(self._combine_beside(lead, base, within, most))
                        for lead in (leads if most is not None else leads[:1])
                    ]
                )
            ),
            most,
        )
        if not self._devices.compete or most is None:
            return combinations
        # The sets of the first classes were chosen without regard to what
        # they leave for the others.
        known = list(combinations)
        if known and within is not None:
            return known
        return itertools.chain(known, self._search(base, known, within))

    def _combine_beside(
        self,
        lead: near.Part,
        base: trees.BaseAllocation,
        within: tree_devices.Within | None,
        most: int | None,
    ) -> Iterable[tree_devices.Combination]:
        """Combine device sets of all classes, as they go with one of them."""
        classes = range(len(self._classes))
        order = sorted(classes, key=lambda index: index != lead)
        combinations: Iterable[tree_devices.Combination] = [()]
        for index in order:
            combinations = list(combinations)
            options = [
                self._list_options(
                    index, base, combination, place, most, within, lead
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

    def _list_options(
        self,
        index: int,
        base: trees.BaseAllocation,
        combination: tree_devices.Combination,
        place: int,
        most: int | None,
        within: tree_devices.Within | None,
        lead: near.Part = 0,
    ) -> Sequence[sets.IndexSet]:
        """List device sets for a class beside those of the classes before.

        :param place: of the combination among others; the list starts at
            another set for each, so that all sets occur early.
        :param lead: what comes first in the combination, or is in the base.
        """
        to_lead = None
        beside: near.CompanionRequests = ()
        shares = self._devices.count_shares_beside(
            index, base, combination, within
        )
        if self._devices.compete:
            pass
        elif index == lead:
            beside = self._companion_links.find_beside(
                index,
                [
                    self._devices.count_shares_beside(other, base, (), within)
                    for other in range(len(self._classes))
                ],
                self._companion_links.list_linked_providers(base),
            )
        else:
            to_lead = self._companion_links.read_companions(lead, index)
        options = self._choose(
            index,
            shares,
            # Those near to the others may be far down the list.
            most if to_lead is None or most is None else max(most, _MOST_NEAR),
            beside,
        )
        if not options:
            return options
        if to_lead is not None:
            options = sets.sort_by_nearness(
                to_lead,
                combination[0] if isinstance(lead, int) else (0,),
                options,
                shares,
                place,
            )
        else:
            start = place % len(options)
            options = (*options[start:], *options[:start])
        return options[:most]

    def _choose(
        self,
        index: int,
        shares: tree_devices.Shares,
        limit: int | None,
        beside: near.CompanionRequests,
    ) -> Sequence[sets.IndexSet]:
        """List device sets of a class, as ``sets.choose`` does.

        Classes that do not compete ask for the same ones again and again.
        """
        key = index, shares, limit, beside
        if self._last_choice[0] != key:
            options = sets.choose(
                self._devices.topologies[index],
                shares,
                self._classes[index].size,
                limit,
                self._asked.seed,
                self._asked.mix,
                beside,
            )
            self._last_choice = key, options
        return self._last_choice[1]

    def _search(
        self,
        base: trees.BaseAllocation,
        known: Collection[tree_devices.Combination],
        within: tree_devices.Within | None,
    ) -> Iterator[tree_devices.Combination]:
        """Find more combinations where classes compete, by trying all sets.

        :param known: those that are not to be found again.
        :raises TooManyError: none is known, and none of the sets that were
            tried leads to one.
        """
        few_will_do = within is not None or (
            known and self._asked.max_sets is not None
        )
        left = iter(
            range(_MOST_SEARCHED_FOR_MORE if few_will_do else _MOST_SEARCHED)
        )
        last = len(self._classes) - 1
        seen = frozenset(known)
        none_found = not known
        is_given_up = False

        def extend(
            combination: tree_devices.Combination,
        ) -> Iterator[tree_devices.Combination]:
            nonlocal is_given_up
            index = len(combination)
            if index == last:
                most = self._asked.most_per_tree
                for found in self._list_options(
                    index, base, combination, 0, most, within
                ):
                    yield (*combination, found)
                return
            shares = self._devices.count_shares_beside(
                index, base, combination, within
            )
            for found in sets.generate_all(shares, self._classes[index].size):
                if next(left, None) is None or not self._asked.effort.spend(
                    _STEP_EFFORT
                ):
                    is_given_up = True
                    return
                yield from extend((*combination, found))

        for combination in extend(()):
            if combination not in seen:
                none_found = False
                yield combination
        if none_found and within is None and is_given_up:
            raise query.TooManyError("too many combinations")


def _extend(
    combinations: Sequence[tree_devices.Combination],
    options: Sequence[Sequence[sets.IndexSet]],
) -> Iterator[tree_devices.Combination]:
    """Put each combination together with its first option, then each with its
    second, and so on."""
    for turn in range(max(map(len, options), default=0)):
        for combination, found in zip(combinations, options, strict=True):
            if turn < len(found):
                yield (*combination, found[turn])
