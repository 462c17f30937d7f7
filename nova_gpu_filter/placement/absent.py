# SPDX-License-Identifier: Apache-2.0

"""Find out why a truncated answer of Placement lacks provider trees.

Placement leaves out a host without VCPU, memory or disk for the request, one
that is disabled, or one of another availability zone, whatever devices are
free there. It also leaves out hosts that it did not come to. Which of the two
it was is found out in two steps: whatever the groups in no class ask for is
asked for by itself, of all trees in one question each, and trees without it
are rightly left out; the few trees that remain are asked for one by one.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator

from nova_gpu_filter.placement import base_requirements
from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

_MOST_TREES_ASKED = 64
"""How many trees are asked for one by one. Each takes 10 to 50 ms, in clouds
of any size."""

_MOST_WAYS_TRIED = 5_000
"""How many ways to serve all groups of one tree Placement may have to try. It
tries all of them where none is good, as of groups in different subtrees."""


def find_able(
    question: query.Question,
    absent: Collection[str],
    sharing: Collection[str],
    placement: inner.PlacementQueries,
    most: int,
) -> Iterator[trees.Answer]:
    """Find out which trees can serve the groups in no class nevertheless.

    :param absent: root provider UUIDs of trees that an answer to
        ``question.base_query`` does not have.
    :param sharing: UUIDs of all sharing providers.
    :param most: how many ways to serve the groups are read of each tree.
    :returns: for each tree that can, the answer to ``question.base_query`` of
        this tree alone.
    :raises NotComposableError: Placement does not answer with 200.
    :raises TooManyError: there are too many trees left to ask for.
    """
    ways = dict.fromkeys(absent, 1)
    is_shared = False
    for requirement in base_requirements.find(question):
        if not ways:
            return
        found = placement.find_providers(requirement.query)
        _apply(requirement, found, sharing, ways)
        is_shared |= requirement.is_resource and _has_any_of(found, sharing)
    if not ways:
        return
    if (
        # In a tree, sharing providers are not looked for.
        is_shared
        or len(ways) > _MOST_TREES_ASKED
        or max(ways.values()) > _MOST_WAYS_TRIED
    ):
        raise query.TooManyError(
            "too many combinations of the remaining groups"
        )
    for root in ways:
        answer = placement.find_candidates(
            base_requirements.build_query_in_tree(question, root), most
        )
        if answer["allocation_requests"]:
            yield answer


def can_exceed(
    question: query.Question, most: int, placement: inner.PlacementQueries
) -> bool:
    """Tell whether a truncated answer could not have all trees.

    :param most: how many allocation candidates it has.
    :returns: whether more trees than that have the resources that the groups
        in no class need, each by itself.
    """
    able: set[str] | None = None
    for requirement in base_requirements.find(question):
        if requirement.is_resource:
            roots = placement.find_providers(requirement.query).keys()
            able = set(roots) if able is None else able & roots
            if len(able) <= most:
                return False
    return able is not None


def _apply(
    requirement: base_requirements.Requirement,
    found: trees.DevicesByRoot,
    sharing: Collection[str],
    ways: dict[str, int],
) -> None:
    """Remove trees that lack what is needed, and count ways to have it.

    :param found: the providers with it.
    :param ways: root provider UUID -> an upper bound of the ways to serve
        all groups; is changed.
    """
    if requirement.of == base_requirements.Of.NO_ROOT:
        lacking: Iterable[str] = [r for r in found if r in found[r]]
    elif requirement.of == base_requirements.Of.ROOT:
        lacking = [r for r in ways if r not in found.get(r, ())]
    elif _has_any_of(found, sharing):
        # It is there for trees that the answer does not tell.
        lacking = ()
    else:
        lacking = [root for root in ways if root not in found]
    for root in lacking:
        ways.pop(root, None)
    if requirement.is_resource:
        for root, number in ways.items():
            ways[root] = number * max(1, len(found.get(root, ())))


def _has_any_of(
    found: trees.DevicesByRoot, providers: Collection[str]
) -> bool:
    return bool(providers) and any(
        provider in providers for each in found.values() for provider in each
    )
