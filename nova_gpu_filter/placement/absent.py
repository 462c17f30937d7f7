# SPDX-License-Identifier: Apache-2.0

"""Find out why a truncated answer of Placement lacks provider trees.

Placement leaves out hosts that cannot serve the request, and hosts that it did
not come to. Which of the two it was is found out in two steps: whatever the
groups in no class ask for is asked for by itself, of all trees in one question
each, and trees without it are rightly left out; the few trees that remain are
asked for one by one.

What is asked for is known from ``get_trees_matching_all`` and
``get_provider_ids_matching`` in placement/objects/research_context.py, and
``_check_traits_for_alloc_request`` in placement/objects/
allocation_candidate.py.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import urllib.parse

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

_MOST_TREES_ASKED = 64
"""How many trees are asked for one by one. Each takes 10 to 50 ms, in clouds
of any size."""

_MOST_WAYS_TRIED = 5_000
"""How many ways to serve all groups of one tree Placement may have to try. It
tries all of them where none is good, as of groups in different subtrees."""


class Of(enum.Enum):
    """Which provider of a tree must be among those that are found."""

    ANY = enum.auto()
    """One of the tree, or one that shares its inventory with the tree."""
    ROOT = enum.auto()
    """The root."""
    NO_ROOT = enum.auto()
    """Not the root."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a tree must have."""

    query: str
    """Of ``GET /resource_providers``."""
    of: Of = Of.ANY
    is_resource: bool = False
    """Whether one of the providers is chosen for an allocation candidate."""


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
    for requirement in find_requirements(question):
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
            build_query_in_tree(question, root), most
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
    for requirement in find_requirements(question):
        if requirement.is_resource:
            roots = placement.find_providers(requirement.query).keys()
            able = set(roots) if able is None else able & roots
            if len(able) <= most:
                return False
    return able is not None


def _apply(
    requirement: Requirement,
    found: trees.DevicesByRoot,
    sharing: Collection[str],
    ways: dict[str, int],
) -> None:
    """Remove trees that lack what is needed, and count ways to have it.

    :param found: the providers with it.
    :param ways: root provider UUID -> an upper bound of the ways to serve
        all groups; is changed.
    """
    if requirement.of == Of.NO_ROOT:
        lacking: Iterable[str] = [r for r in found if r in found[r]]
    elif requirement.of == Of.ROOT:
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


def find_requirements(question: query.Question) -> Iterator[Requirement]:
    """Yield what the groups in no class need, what is cheap to ask first.

    :raises NotComposableError: a part of the query is not understood.
    """
    yield from _find_root_requirements(question)
    if "" in question.other_suffixes:
        yield from _find_unsuffixed_requirements(question)
    for suffix in question.other_suffixes:
        if suffix:
            yield _build_requirement(question, suffix)


def build_query_in_tree(question: query.Question, root: str) -> str:
    """Return ``question.base_query`` of one tree, without sharing providers.

    :raises NotComposableError: a group asks for a tree by itself.
    """
    pairs = [question.base_query]
    for suffix in question.other_suffixes:
        if question.list_values("in_tree", suffix):
            raise query.NotComposableError("a group asks for a tree")
        # One without resources goes with the others.
        if question.list_values("resources", suffix):
            pairs.append(f"in_tree{suffix}={root}")
    return "&".join(pairs)


def _find_root_requirements(question: query.Question) -> Iterator[Requirement]:
    required, forbidden = _split_traits(question.list_values("root_required"))
    for trait in forbidden:
        yield Requirement(_encode(required=trait), Of.NO_ROOT)
    for trait in required:
        yield Requirement(_encode(required=trait), Of.ROOT)


def _find_unsuffixed_requirements(
    question: query.Question,
) -> Iterator[Requirement]:
    """Yield the needs of a group that several providers can serve together."""
    for value in question.list_values("member_of"):
        if value.startswith("!"):
            # What is in it as a provider below the root is no matter here.
            yield Requirement(_encode(member_of=value[1:]), Of.NO_ROOT)
    required, forbidden = _split_traits(question.list_values("required"))
    others = {}
    if forbidden:
        others["required"] = ",".join(f"!{trait}" for trait in forbidden)
    in_tree = question.list_values("in_tree")
    if in_tree:
        others["in_tree"] = in_tree[-1]
    for resource_class, amount in question.unsuffixed_resources:
        yield Requirement(
            _encode(resources=f"{resource_class}:{amount}", **others),
            is_resource=True,
        )
    for value in question.list_values("member_of"):
        if not value.startswith("!"):
            # Root or provider; whichever it is, it is of the tree.
            yield Requirement(_encode(member_of=value))
    for trait in required:
        yield Requirement(_encode(required=trait))


def _build_requirement(question: query.Question, suffix: str) -> Requirement:
    """Return the need of a group that one provider serves."""
    names = ["resources", "required", "member_of"]
    is_resource = bool(question.list_values("resources", suffix))
    if is_resource:
        names.append("in_tree")
    return Requirement(
        "&".join(
            _encode(**{name: value})
            for name in names
            for value in question.list_values(name, suffix)
        ),
        is_resource=is_resource,
    )


def _split_traits(values: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the terms that are required, and the traits that are forbidden.

    :param values: of ``required`` or ``root_required``; a term is a trait, or
        several of which one is required.
    """
    required = []
    forbidden = []
    for value in values:
        if value.startswith("in:"):
            required.append(value)
            continue
        for term in map(str.strip, value.split(",")):
            if term.startswith("!"):
                forbidden.append(term[1:])
            else:
                required.append(term)
    return required, forbidden


def _encode(**parameters: str) -> str:
    return urllib.parse.urlencode(parameters, safe=":,!")
