# SPDX-License-Identifier: Apache-2.0

"""Ask Placement for the trees that can serve a request."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses

from nova_gpu_filter.placement import absent
from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

_MOST_DEVICES = 100
"""As many times the operator's limit are read of an answer that has one
candidate a device, unless trees can serve the unsuffixed group in many ways.
"""

_MAX_BASES = 8
"""How many ways to serve the groups in no class are read for each tree with
devices, where the operator's limit is less."""

_SHARING = "required=MISC_SHARES_VIA_AGGREGATE"


@dataclasses.dataclass(frozen=True)
class Found:
    """What Placement has told of one request."""

    provider_trees: Sequence[trees.Tree]
    summaries: trees.Summaries
    """Of all providers in these trees, and perhaps in others."""
    is_truncated: bool
    """Whether a tree can have more ways to serve the groups in no class than
    were read."""


def find_trees(
    question: query.Question,
    placement: inner.PlacementQueries,
    limit: int | None,
) -> Found:
    """Find the trees that can serve one group of each class and the rest.

    :param limit: how many candidates the operator allows; None for any number.
    :raises NotComposableError: Placement does not answer with 200, or a device
        is a sharing provider.
    :raises TooManyError: the answer was truncated, and too many trees that it
        lacks could be able to serve the request.
    """
    if question.has_many_bases:
        placement.open(question.base_query)
        found = placement.find_whole(question.base_query)
        if found is None:
            return _find_by_base(question, placement, limit)
    else:
        placement.open(question.first_class_query)
        most = None if limit is None else _MOST_DEVICES * max(1, limit)
        # Not in turn: an answer that is cut off is not used.
        found = placement.find_candidates(question.first_class_query, most)
        if _is_truncated(found, most):
            return _find_by_base(question, placement, limit)
    summaries = found["provider_summaries"]
    if not found["allocation_requests"]:
        return _find_nothing(question, summaries, placement)
    has_first_class = not question.has_many_bases
    devices = find_devices(question, found, has_first_class, placement)
    if devices is None:
        return _find_nothing(question, summaries, placement)
    _refuse_sharing(found, devices, placement)
    first = None if has_first_class else devices.pop(0)
    return Found(
        trees.read(question, found, first, devices),
        summaries,
        is_truncated=False,
    )


def _find_nothing(
    question: query.Question,
    summaries: trees.Summaries,
    placement: inner.PlacementQueries,
) -> Found:
    """Find no trees, unless Placement refuses what a class asks for.

    Stock Placement refuses a trait or a resource class that does not exist
    where it comes to it before a group that nothing can serve.

    :raises NotComposableError: it does.
    """
    for group_class in question.classes:
        placement.check_providers(question.build_providers_query(group_class))
    return Found((), summaries, is_truncated=False)


def _find_by_base(
    question: query.Question,
    placement: inner.PlacementQueries,
    limit: int | None,
) -> Found:
    """Ask for the groups in no class by themselves."""
    devices = [
        placement.find_providers(question.build_providers_query(group_class))
        for group_class in question.classes
    ]
    roots = set.intersection(*map(set, devices))
    most = None if limit is None else max(1, limit, _MAX_BASES * len(roots))
    asked = question.base_query
    if most is not None and absent.can_exceed(question, most, placement):
        # Those without devices would fill it.
        asked = question.device_and_base_query
    found = placement.find_candidates(asked, most, in_turn=True)
    _refuse_sharing(found, devices, placement)
    read = trees.read(question, found, devices[0], devices[1:])
    summaries = found["provider_summaries"]
    if not _is_truncated(found, most):
        return Found(read, summaries, is_truncated=False)
    sharing = _find_sharing(placement)
    for answer in absent.find_able(
        question,
        roots - {tree.root for tree in read},
        sharing,
        placement,
        _MAX_BASES,
    ):
        read += trees.read(question, answer, devices[0], devices[1:])
        summaries = {**summaries, **answer["provider_summaries"]}
    if not sharing:
        # Of these, no way to serve the rest would leave enough.
        read = trees.drop_short(question, read, summaries)
    return Found(read, summaries, is_truncated=True)


def _is_truncated(found: trees.Answer, most: int | None) -> bool:
    return most is not None and len(found["allocation_requests"]) >= most


def _refuse_sharing(
    found: trees.Answer,
    devices: Sequence[trees.DevicesByRoot],
    placement: inner.PlacementQueries,
) -> None:
    trees.refuse_sharing(
        found["provider_summaries"], devices, lambda: _find_sharing(placement)
    )


def _find_sharing(placement: inner.PlacementQueries) -> set[str]:
    return {
        provider
        for providers in placement.find_providers(_SHARING).values()
        for provider in providers
    }


def find_devices(
    question: query.Question,
    found: trees.Answer,
    has_first_class: bool,
    placement: inner.PlacementQueries,
) -> list[trees.DevicesByRoot] | None:
    """Find the providers that can serve a group of each class.

    Asking Placement for one class takes 4 milliseconds and more. Where a class
    asks for all that another asks for, and for some traits beside, its devices
    are those of the other whose summaries have the traits.

    :param found: an answer that has all trees that can serve the groups in no
        class. Of others there can be devices or not.
    :param has_first_class: whether it is the answer to
        ``question.first_class_query``, so that the devices of the first class
        are known, and are left out.
    :returns: None where no provider at all can serve a group of some class.
    :raises NotComposableError: Placement does not answer with 200.
    """
    classes = question.classes
    known: dict[int, trees.DevicesByRoot] = {}
    if has_first_class:
        known[0] = {}
    names: Collection[str] = ()
    for index in sorted(
        range(len(classes)), key=lambda index: len(classes[index].traits)
    ):
        if index in known:
            continue
        group_class = classes[index]
        wider = _find_wider(classes, known, group_class)
        if wider is not None and not names:
            summaries = found["provider_summaries"]
            names = {t for each in summaries.values() for t in each["traits"]}
        if wider is None or not _are_known(group_class.traits, names):
            known[index] = placement.find_providers(
                question.build_providers_query(group_class)
            )
            if not known[index]:
                # Stock Placement gives up at such a group, too.
                return None
            continue
        if has_first_class and not wider and not known[0]:
            known[0] = _read_first_class(question, found)
        known[index] = _keep_with_traits(
            known[wider],
            group_class.traits - classes[wider].traits,
            found["provider_summaries"],
        )
    return [known[index] for index in range(has_first_class, len(classes))]


def _find_wider(
    classes: tuple[query.GroupClass, ...],
    known: Iterable[int],
    group_class: query.GroupClass,
) -> int | None:
    """Find a class whose devices include those of another.

    :param known: indexes of the classes whose devices are known.
    """
    for index in known:
        wider = classes[index]
        if (
            wider.resources == group_class.resources
            and wider.places == group_class.places
            and wider.traits <= group_class.traits
        ):
            return index
    return None


def _are_known(terms: Iterable[query.Term], names: Collection[str]) -> bool:
    """Whether all traits exist, so that Placement would not refuse them.

    :param names: traits that there are.
    """
    return all(
        name.removeprefix("!") in names
        for term in terms
        for name in ((term,) if isinstance(term, str) else term)
    )


def _read_first_class(
    question: query.Question, found: trees.Answer
) -> trees.DevicesByRoot:
    """List the devices in the answer to ``question.first_class_query``."""
    summaries = found["provider_summaries"]
    representative = question.classes[0].representative
    devices: dict[str, dict[str, None]] = {}
    for request in found["allocation_requests"]:
        (device,) = request["mappings"][representative]
        root = summaries[device]["root_provider_uuid"]
        devices.setdefault(root, {})[device] = None
    return {root: list(of_root) for root, of_root in devices.items()}


def _keep_with_traits(
    devices: trees.DevicesByRoot,
    terms: Iterable[query.Term],
    summaries: trees.Summaries,
) -> trees.DevicesByRoot:
    """Keep the devices that have some traits, of trees with summaries."""
    kept: dict[str, list[str]] = {}
    for root, of_root in devices.items():
        for device in of_root:
            summary = summaries.get(device)
            if summary is not None and all(
                _has(summary["traits"], term) for term in terms
            ):
                kept.setdefault(root, []).append(device)
    return kept


def _has(traits: Collection[str], term: query.Term) -> bool:
    if not isinstance(term, str):
        return not term.isdisjoint(traits)
    if term.startswith("!"):
        return term[1:] not in traits
    return term in traits
