# SPDX-License-Identifier: Apache-2.0

"""Read the query of GET /allocation_candidates and find equal groups in it.

What is read here is a strict part of what Placement accepts
(placement/lib.py, ``RequestGroup.dict_from_request``). A query that holds
anything else is left to Placement, which then answers, or refuses, as always.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
import sys
from typing import TypeAlias
import urllib.parse

MINIMUM_MICROVERSION = (1, 34)
"""The first one whose answers say which provider serves which group."""

_ANY_TRAITS_MICROVERSION = (1, 39)
"""Before it, of a repeated ``required`` only the last counts, and ``in:`` is
refused."""

_GROUP_KEY = re.compile(
    r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?"
)
_RESOURCES = re.compile(
    r"[A-Z0-9_]+:[1-9][0-9]{0,9}(,[A-Z0-9_]+:[1-9][0-9]{0,9})*"
)
_ALL_TRAITS = re.compile(r"!?[A-Z0-9_]+(,!?[A-Z0-9_]+)*")
_ANY_TRAITS = re.compile(r"in:[A-Z0-9_]+(,[A-Z0-9_]+)*")
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_AGGREGATES = re.compile(rf"!?({_UUID}|in:{_UUID}(,{_UUID})*)")
_IN_TREE = re.compile(_UUID)
_LIMIT = re.compile(r"[1-9][0-9]{0,99}")
# Python reads numbers of 4,300 digits (sys.set_int_max_str_digits), and what
# counts candidates ends at sys.maxsize. No answer has as many as that.
_DIGITS = re.compile(r"([0-9]+)")


_ROOT_RESOURCES = frozenset(("VCPU", "PCPU", "MEMORY_MB", "DISK_GB"))
"""What nova-compute reports of a host as a whole, so that a tree can serve a
group that asks for nothing else in one way, or in few."""


Term: TypeAlias = str | frozenset[str]
"""A trait, one that is forbidden (``!`` before it), or several of which one
will do."""

_Normal: TypeAlias = tuple[
    tuple[tuple[str, int], ...], frozenset[Term], frozenset[object], str
]
"""Resources, traits, aggregates and tree that a group asks for."""


class NotComposableError(Exception):
    """The request is left to Placement; the message says why."""


class TooManyError(NotComposableError):
    """Composing an answer would take more than Placement takes alone."""


@dataclasses.dataclass(frozen=True)
class GroupClass:
    """Request groups that ask for the same; often one alone."""

    suffixes: tuple[str, ...]
    """In canonical order: numbers in them count as numbers."""
    resources: tuple[tuple[str, int], ...]
    """What one of the groups asks for: (resource class, amount), sorted."""
    traits: frozenset[Term]
    """What is asked of the traits of its provider, all of it."""
    places: object
    """Aggregates and tree of its provider; equal where these are equal."""

    @property
    def representative(self) -> str:
        """The suffix of the group that Placement is asked about."""
        return self.suffixes[0]

    @property
    def size(self) -> int:
        """How many groups are in the class."""
        return len(self.suffixes)


@dataclasses.dataclass(frozen=True)
class Question:
    """A query in which equal groups were found."""

    classes: tuple[GroupClass, ...]
    """The largest first, which has two groups and more."""
    other_suffixes: tuple[str, ...]
    """Suffixes of the groups in no class; ``""`` is the unsuffixed one."""
    has_many_bases: bool
    """Whether a tree could serve the groups in no class in many ways: some are
    bound to each other, or the unsuffixed one asks for a device."""
    isolate: bool
    """Whether each suffixed group must have a provider of its own."""
    limit: int | None
    _pairs: Sequence[tuple[str, str, str]]
    """(name, suffix, pair as it stood in the query), without ``limit``."""

    @property
    def first_class_query(self) -> str:
        """The query for allocation candidates of all groups in no class, and
        of one group of the first class."""
        return self._build_query(
            *self.other_suffixes, self.classes[0].representative
        )

    @property
    def base_query(self) -> str:
        """The query for allocation candidates of all groups in no class."""
        return self._build_query(*self.other_suffixes)

    @property
    def device_and_base_query(self) -> str:
        """:attr:`first_class_query` in another order.

        Placement puts the groups together in the order of the query, and the
        last ones change first: each candidate of a tree has another base as
        long as there are more.
        """
        first = self.classes[0].representative
        return dataclasses.replace(
            self, _pairs=sorted(self._pairs, key=lambda p: p[1] != first)
        ).first_class_query

    def _build_query(self, *suffixes: str) -> str:
        return "&".join(
            pair
            for name, suffix, pair in self._pairs
            if name not in _GROUP_NAMES or suffix in suffixes
        )

    def build_providers_query(self, group_class: GroupClass) -> str:
        """Return the query for the providers that can serve a group.

        ``GET /resource_providers`` finds the same ones as
        ``GET /allocation_candidates``, in a quarter of the time.
        """
        return "&".join(self._list_filters(group_class, _GROUP_NAMES))

    def build_capable_providers_query(
        self, group_class: GroupClass, resource_class: str, amount: int
    ) -> str:
        """Return the query for the providers that could serve a group if it
        asked for this much of one resource class."""
        rest = self._list_filters(group_class, _GROUP_NAMES - {"resources"})
        return "&".join([f"resources={resource_class}:{amount}", *rest])

    def list_values(self, name: str, suffix: str = "") -> list[str]:
        """List the values of a parameter, decoded, of a group or of all."""
        return [
            _decode(pair)[1]
            for found, of_suffix, pair in self._pairs
            if found == name and of_suffix == suffix
        ]

    @property
    def unsuffixed_resources(self) -> tuple[tuple[str, int], ...]:
        """What the unsuffixed group asks for: (resource class, amount).

        :raises NotComposableError: it is malformed.
        """
        return _parse_resources(self.list_values("resources"))

    def _list_filters(
        self, group_class: GroupClass, names: Iterable[str]
    ) -> list[str]:
        return [
            f"{name}={pair.partition('=')[2]}"
            for name, suffix, pair in self._pairs
            if name in names and suffix == group_class.representative
        ]


_GROUP_NAMES = frozenset(("resources", "required", "member_of", "in_tree"))


def parse(query_string: str, microversion: tuple[int, int]) -> Question:
    """Find the classes of equal groups in a query.

    Groups are equal when they ask for the same amounts of the same resource
    classes with the same traits, aggregates and tree, in any order. A group
    that ``same_subtree`` names is in no class.

    :param query_string: as in ``QUERY_STRING`` of a WSGI environment.
    :param microversion: (major, minor), at least
        :data:`MINIMUM_MICROVERSION`.
    :raises NotComposableError: nothing is gained, or something in the query
        is not understood.
    """
    pairs: list[tuple[str, str, str]] = []
    groups: dict[str, dict[str, list[str]]] = {}
    wide: dict[str, list[str]] = {}
    for pair in query_string.split("&"):
        if not pair:
            continue
        key, value = _decode(pair)
        match = _GROUP_KEY.fullmatch(key)
        if match:
            name, suffix = match.group(1), match.group(2) or ""
            groups.setdefault(suffix, {}).setdefault(name, []).append(value)
        elif key in ("limit", "group_policy", "root_required", "same_subtree"):
            name, suffix = key, ""
            wide.setdefault(key, []).append(value)
        else:
            raise NotComposableError("unknown query parameter")
        if name != "limit":
            pairs.append((name, suffix, pair))
    if microversion < _ANY_TRAITS_MICROVERSION and any(
        len(values) > 1 or values[0].startswith("in:")
        for group in groups.values()
        if (values := group.get("required"))
    ):
        raise NotComposableError("malformed query")
    classes = _find_classes(groups, wide.get("same_subtree", ()))
    isolate = _parse_group_policy(wide) == "isolate"
    if isolate and _has_shared_resource_class(groups):
        raise NotComposableError("isolate with an unsuffixed device")
    in_classes = {suffix for found in classes for suffix in found.suffixes}
    others = tuple(suffix for suffix in groups if suffix not in in_classes)
    return Question(
        classes=classes,
        other_suffixes=others,
        has_many_bases=any(others)
        or not _list_resource_classes(groups.get("", {})) <= _ROOT_RESOURCES,
        isolate=isolate,
        limit=_parse_limit(wide),
        _pairs=tuple(pairs),
    )


def _has_shared_resource_class(
    groups: Mapping[str, Mapping[str, Sequence[str]]],
) -> bool:
    """Whether the unsuffixed group asks for what a suffixed one asks for.

    With ``isolate`` Placement then adds amounts up in objects that several
    allocation requests share (``copy_arr_if_needed`` in
    placement/objects/research_context.py), so that some of them name more than
    they map. Nothing can be composed of such answers.
    """
    asked = {
        suffix: _list_resource_classes(group)
        for suffix, group in groups.items()
    }
    unsuffixed = asked.pop("", set())
    return any(unsuffixed & found for found in asked.values())


def _list_resource_classes(group: Mapping[str, Sequence[str]]) -> set[str]:
    return {
        part.partition(":")[0]
        for value in group.get("resources", ())
        for part in value.split(",")
    }


def _decode(pair: str) -> tuple[str, str]:
    key, _, value = pair.partition("=")
    try:
        return (
            urllib.parse.unquote_plus(key, errors="strict"),
            urllib.parse.unquote_plus(value, errors="strict"),
        )
    except UnicodeDecodeError:
        raise NotComposableError("malformed query") from None


def _parse_group_policy(wide: Mapping[str, Sequence[str]]) -> str:
    # Placement demands it of the whole query, which the inner one, with fewer
    # groups, might no longer show.
    values = wide.get("group_policy", ())
    if len(values) != 1 or values[0] not in ("none", "isolate"):
        raise NotComposableError("malformed query")
    return values[0]


def _parse_limit(wide: Mapping[str, Sequence[str]]) -> int | None:
    values = wide.get("limit", ())
    if not values:
        return None
    if len(values) != 1 or not _LIMIT.fullmatch(values[0]):
        raise NotComposableError("malformed query")
    return min(int(values[0]), sys.maxsize)


def _find_classes(
    groups: Mapping[str, Mapping[str, Sequence[str]]],
    same_subtrees: Iterable[str],
) -> tuple[GroupClass, ...]:
    bound = {
        suffix.strip()
        for value in same_subtrees
        for suffix in value.split(",")
    }
    suffixes_by_key: dict[_Normal, list[str]] = {}
    for suffix, group in groups.items():
        if suffix and suffix not in bound and "resources" in group:
            key = _normalize(group)
            suffixes_by_key.setdefault(key, []).append(suffix)
    classes = [
        GroupClass(
            suffixes=tuple(sorted(suffixes, key=build_sort_key)),
            resources=resources,
            traits=traits,
            places=places,
        )
        for (resources, traits, *places), suffixes in suffixes_by_key.items()
    ]
    if all(found.size == 1 for found in classes):
        raise NotComposableError("no equal groups")
    return tuple(sorted(classes, key=lambda found: -found.size))


def build_sort_key(suffix: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key by which ``_10`` comes after ``_9``.

    The parts alternate between text and number, so that they can be compared.
    """
    parts = _DIGITS.split(suffix)
    return (
        tuple(
            int(part) if index % 2 else part
            for index, part in enumerate(parts)
        ),
        suffix,
    )


def _normalize(group: Mapping[str, Sequence[str]]) -> _Normal:
    """Return what is equal for groups that ask for the same."""
    in_tree = group.get("in_tree", ())
    if len(in_tree) > 1 or not all(map(_IN_TREE.fullmatch, in_tree)):
        raise NotComposableError("malformed query")
    return (
        _parse_resources(group["resources"]),
        _parse_traits(group.get("required", ())),
        _parse_aggregates(group.get("member_of", ())),
        "".join(in_tree),
    )


def _parse_resources(values: Sequence[str]) -> tuple[tuple[str, int], ...]:
    if len(values) != 1 or not _RESOURCES.fullmatch(values[0]):
        raise NotComposableError("malformed query")
    amounts: dict[str, int] = {}
    for part in values[0].split(","):
        name, _, amount = part.partition(":")
        if name in amounts:
            raise NotComposableError("malformed query")
        amounts[name] = int(amount)
    return tuple(sorted(amounts.items()))


def _parse_traits(values: Sequence[str]) -> frozenset[Term]:
    terms: set[Term] = set()
    for value in values:
        if _ALL_TRAITS.fullmatch(value):
            terms.update(value.split(","))
        elif _ANY_TRAITS.fullmatch(value):
            terms.add(frozenset(value.removeprefix("in:").split(",")))
        else:
            raise NotComposableError("malformed query")
    # GET /resource_providers finds none; for candidates it is refused.
    if any(
        {f"!{trait}" for trait in ((term,) if isinstance(term, str) else term)}
        <= terms
        for term in terms
    ):
        raise NotComposableError("conflicting traits")
    return frozenset(terms)


def _parse_aggregates(values: Sequence[str]) -> frozenset[object]:
    terms = set()
    for value in values:
        if not _AGGREGATES.fullmatch(value):
            raise NotComposableError("malformed query")
        prefix = value.rpartition(":")[0]
        uuids = value.removeprefix("!").removeprefix("in:").split(",")
        terms.add((value.startswith("!"), prefix, frozenset(uuids)))
    return frozenset(terms)
