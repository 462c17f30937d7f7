# SPDX-License-Identifier: Apache-2.0

"""List what the groups in no class need of a tree, one thing at a time.

Each is a query of ``GET /resource_providers``. A tree that lacks one of them
has no allocation candidate; a tree that has all of them need not have one. The
rules are those of ``get_trees_matching_all`` and ``get_provider_ids_matching``
in placement/objects/research_context.py, and of
``_check_traits_for_alloc_request`` in placement/objects/
allocation_candidate.py.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import urllib.parse

from nova_gpu_filter.placement import query


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


def find(question: query.Question) -> Iterator[Requirement]:
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
    """Return the query for allocation candidates of one tree.

    Of all groups in no class, as ``question.base_query``, and without sharing
    providers.

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
