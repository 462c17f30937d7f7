# SPDX-License-Identifier: Apache-2.0

"""Further views of a host state: the same host, another first candidate.

The scheduler claims the first candidate of a host, and goes on to the next
host when the claim is lost (``_schedule`` in nova/scheduler/manager.py). Where
a host stands in its list again, it tries its other devices. Others have
claimed by then, so these are chosen when the scheduler comes to a view.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import itertools
from typing import Any
from typing import TypeAlias

Candidate: TypeAlias = dict[str, Any]
"""An allocation candidate: ``allocations`` and ``mappings``."""

Choose: TypeAlias = Callable[[Sequence[Candidate]], list[Candidate]]
"""Chooses what to claim by now: the given candidates, or others."""


class _LateCandidates(list[Candidate]):
    """Candidates that are chosen when the scheduler is about to claim one.

    It asks whether there are any (``if not host.allocation_candidates``), and
    takes the first. Filters go through them, and are given what they were.
    """

    def __init__(
        self, candidates: Iterable[Candidate], choose: Choose
    ) -> None:
        super().__init__(candidates)
        self._choose: Choose | None = choose

    def __bool__(self) -> bool:
        choose, self._choose = self._choose, None
        if choose is not None and len(self):
            self[:] = choose(tuple(self))
        return len(self) > 0


class _View:
    """The part of a view that is its own; a mixin before the host's class.

    The rest is the host state's: both have one ``__dict__``, so that what
    Nova changes in one of them is changed in all. A view equals its host: the
    scheduler leaves out chosen hosts by ``host not in selected_hosts``.
    """

    __slots__ = ()

    @property
    def allocation_candidates(self):
        """The candidates of this view, in place of those of the host."""
        return self._candidates

    @allocation_candidates.setter
    def allocation_candidates(self, candidates):
        self._candidates = _LateCandidates(candidates, self._choose)

    def __eq__(self, other):
        return self._host_state is get_host_state(other)

    def __hash__(self):
        return hash(self._host_state)


@functools.cache
def _make_class_of_views(host_state_class: type) -> type:
    """Make the class of the views of a class of host states.

    ``HostManager.host_state_cls`` may be overridden.
    """
    return type(
        f"{host_state_class.__name__}View",
        (_View, host_state_class),
        {"__slots__": ("_candidates", "_choose", "_host_state")},
    )


def _make(host_state, candidate: Candidate, choose: Choose):
    """Make a view of a host state that has one candidate."""
    host_state_class: type = type(host_state)
    view: Any = object.__new__(_make_class_of_views(host_state_class))
    view.__dict__ = host_state.__dict__
    view._host_state = host_state
    view._choose = choose
    view.allocation_candidates = [candidate]
    return view


def is_view(host_state) -> bool:
    """Whether a host state is a further view of another."""
    return isinstance(host_state, _View)


def get_host_state(host_state):
    """Return the host state that a view is of; others are returned as is."""
    return host_state._host_state if is_view(host_state) else host_state


def drop_views(host_states: Iterable) -> list:
    """List the host states of which there are views, each once.

    Views come in again for the next instance of a request, or for alternates.
    """
    return list({id(h): h for h in map(get_host_state, host_states)}.values())


def add_views(
    host_states: list,
    list_devices: Callable[[Candidate], frozenset[str]],
    candidates_to_try: int,
    choose_late: Callable[[Any], Choose],
) -> list:
    """List hosts, and then views of them with further device sets.

    :param host_states: hosts with their candidates, best first.
    :param list_devices: lists the devices that a candidate takes; none where
        nova-compute chooses them.
    :param candidates_to_try: how many hosts and views to list at most. Each
        host gets the same number of views.
    :param choose_late: gives for a host what chooses when a view is claimed.
    """
    most = candidates_to_try // len(host_states) - 1 if host_states else 0
    if most < 1:
        return host_states
    rows = itertools.zip_longest(
        *(
            _make_further(host, list_devices, most, choose_late(host))
            for host in host_states
        )
    )
    return host_states + [view for row in rows for view in row if view]


def _make_further(
    host_state,
    list_devices: Callable[[Candidate], frozenset[str]],
    most: int,
    choose: Choose,
) -> list:
    """Make the views of one host: no two of them with the same devices.

    First disjoint ones: a claim is lost where somebody has one of the devices.
    """
    candidate_by_devices: dict[frozenset[str], Candidate] = {}
    for candidate in host_state.allocation_candidates:
        candidate_by_devices.setdefault(list_devices(candidate), candidate)
    candidate_by_devices.pop(frozenset(), None)
    apart, others = [], []
    listed: set[str] = set()
    for devices, candidate in candidate_by_devices.items():
        if listed.isdisjoint(devices):
            apart.append(candidate)
            listed |= devices
        else:
            others.append(candidate)
    return [
        _make(host_state, candidate, choose)
        for candidate in (apart + others)[1 : most + 1]
    ]
