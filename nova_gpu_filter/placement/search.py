# SPDX-License-Identifier: Apache-2.0

"""Ask Placement for the trees that can serve a request."""

from collections.abc import Sequence
import dataclasses

from nova_gpu_filter.placement import absent
from nova_gpu_filter.placement import class_devices
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
    devices = class_devices.find(question, found, has_first_class, placement)
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
    devices = _find_devices(question.classes, question, placement)
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


def _find_devices(
    classes: Sequence[query.GroupClass],
    question: query.Question,
    placement: inner.PlacementQueries,
) -> list[trees.DevicesByRoot]:
    return [
        placement.find_providers(question.build_providers_query(group_class))
        for group_class in classes
    ]


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
