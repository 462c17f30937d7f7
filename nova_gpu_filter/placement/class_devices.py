# SPDX-License-Identifier: Apache-2.0

"""Find the devices of each class, with as few questions as possible.

Placement is asked for each class by itself, which takes 4 milliseconds and
more. Where a class asks for all that another one asks for, and for some traits
beside, its devices are those of the other whose summaries have the traits.
"""

from collections.abc import Collection
from collections.abc import Iterable

from nova_gpu_filter.placement import inner
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees


def find(
    question: query.Question,
    found: trees.Answer,
    has_first_class: bool,
    placement: inner.PlacementQueries,
) -> list[trees.DevicesByRoot] | None:
    """Find the providers that can serve a group of each class.

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
