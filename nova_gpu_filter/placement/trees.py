# SPDX-License-Identifier: Apache-2.0

"""Read Placement's answers into one plain object a provider tree.

What the groups in no class take is a **base allocation**, for short a base.
One tree can have several: other providers that serve the same groups.
"""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import TypeAlias

from nova_gpu_filter.placement import query

Answer: TypeAlias = Mapping[str, Any]
"""The JSON object of a 200 answer of GET /allocation_candidates."""

Summaries: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Its ``provider_summaries``: provider UUID -> ``resources`` (resource class
-> ``capacity``, ``used``), ``traits``, ``root_provider_uuid``."""

DevicesByRoot: TypeAlias = Mapping[str, Sequence[str]]
"""Root provider UUID -> UUIDs of providers in its tree."""

# A provider with it is also a device of the trees that it shares aggregates
# with, and an allocation request does not say of which: os_traits.
_SHARES = "MISC_SHARES_VIA_AGGREGATE"


@dataclasses.dataclass(frozen=True, slots=True)
class BaseAllocation:
    """What the groups in no class get in some allocation requests."""

    allocations: Mapping[str, Mapping[str, int]]
    """Provider UUID -> resource class -> amount; without the devices."""
    mappings: Mapping[str, Sequence[str]]
    """Suffix -> provider UUIDs; without the suffixes in classes."""
    devices: Sequence[str]
    """The providers that can serve a group of the first class beside it, if
    they have enough left."""

    @property
    def granular_providers(self) -> frozenset[str]:
        """Providers that serve a suffixed group."""
        return frozenset(
            provider
            for suffix, providers in self.mappings.items()
            if suffix
            for provider in providers
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """A provider tree that can serve one group of each class."""

    root: str
    base_allocations: list[BaseAllocation]
    devices: Sequence[Sequence[str]]
    """For each class: the providers that can serve one of its groups."""

    def list_classes_by_device(self) -> dict[str, list[int]]:
        """List for each device the indexes of the classes it can serve."""
        found: dict[str, list[int]] = {}
        for index, devices in enumerate(self.devices):
            for device in devices:
                found.setdefault(device, []).append(index)
        return found


def read(
    question: query.Question,
    inner: Answer,
    first: DevicesByRoot | None,
    others: Sequence[DevicesByRoot],
) -> list[Tree]:
    """Group the inner allocation requests by tree and by base.

    :param inner: the answer to ``question.first_class_query``, to
        ``question.base_query``, or to ``question.device_and_base_query``.
    :param first: the providers that can serve a group of the first class;
        None where ``inner`` has them all.
    :param others: those for each of the other classes.
    :returns: in the order in which the trees appear in ``inner``.
    :raises NotComposableError: a device, or all that a tree gives to the
        base, is of sharing providers.
    """
    if first is None:
        bases_by_root = _read_bases_with_devices(question, inner)
        by_root: DevicesByRoot = {
            root: found[0].devices
            if len(found) == 1
            else list(dict.fromkeys(d for base in found for d in base.devices))
            for root, found in bases_by_root.items()
        }
    else:
        by_root = first
        if _has_devices(question, inner):
            bases_by_root = {
                root: [
                    dataclasses.replace(base, devices=first[root])
                    for base in found
                ]
                for root, found in _read_bases_with_devices(
                    question, inner
                ).items()
            }
        else:
            bases_by_root = _read_bases(question, inner, first)
    return [
        Tree(
            root=root,
            base_allocations=found,
            devices=(by_root[root], *(other[root] for other in others)),
        )
        for root, found in bases_by_root.items()
        if all(root in other for other in others)
    ]


def _has_devices(question: query.Question, inner: Answer) -> bool:
    return any(
        question.classes[0].representative in request["mappings"]
        for request in inner["allocation_requests"][:1]
    )


def _read_bases_with_devices(
    question: query.Question, inner: Answer
) -> dict[str, list[BaseAllocation]]:
    summaries = inner["provider_summaries"]
    representative = question.classes[0].representative
    resources = question.classes[0].resources
    devices_by_base: dict[tuple[object, ...], list[str]] = {}
    bases_by_root: dict[str, list[BaseAllocation]] = {}
    for request in inner["allocation_requests"]:
        mappings = request["mappings"]
        (device,) = mappings[representative]
        _refuse_sharing(summaries[device])
        root = summaries[device]["root_provider_uuid"]
        key = (root, *_build_base_key(question, request, device))
        devices = devices_by_base.get(key)
        if devices is None:
            devices = devices_by_base[key] = []
            base = BaseAllocation(
                allocations=_subtract_device(request, device, resources),
                mappings={s: mappings[s] for s in question.other_suffixes},
                devices=devices,
            )
            bases_by_root.setdefault(root, []).append(base)
        devices.append(device)
    return bases_by_root


def _read_bases(
    question: query.Question, inner: Answer, devices: DevicesByRoot
) -> dict[str, list[BaseAllocation]]:
    """Read bases of which each can have every device of its tree beside it."""
    summaries = inner["provider_summaries"]
    bases_by_root: dict[str, list[BaseAllocation]] = {}
    for request in inner["allocation_requests"]:
        mappings = request["mappings"]
        roots = {
            summaries[provider]["root_provider_uuid"]
            for found in mappings.values()
            for provider in found
            if _SHARES not in summaries[provider]["traits"]
        }
        if len(roots) != 1:
            # Placement knows the tree for which these share; it does not say.
            raise query.NotComposableError("sharing provider")
        (root,) = roots
        if root in devices:
            base = BaseAllocation(
                allocations={
                    provider: allocation["resources"]
                    for provider, allocation in request["allocations"].items()
                },
                mappings={s: mappings[s] for s in question.other_suffixes},
                devices=devices[root],
            )
            bases_by_root.setdefault(root, []).append(base)
    return bases_by_root


def refuse_sharing(
    summaries: Summaries,
    devices: Iterable[DevicesByRoot],
    find_sharing: Callable[[], Collection[str]],
) -> None:
    """Refuse devices that are sharing providers.

    :param find_sharing: returns all sharing providers; called if a device is
        not in the summaries, as those of trees that cannot serve the request.
    :raises NotComposableError: one is.
    """
    unknown = set()
    for by_root in devices:
        for found in by_root.values():
            for device in found:
                summary = summaries.get(device)
                if summary is None:
                    unknown.add(device)
                else:
                    _refuse_sharing(summary)
    if unknown and not unknown.isdisjoint(find_sharing()):
        raise query.NotComposableError("sharing provider")


def _refuse_sharing(summary: Mapping[str, Any]) -> None:
    if _SHARES in summary["traits"]:
        raise query.NotComposableError("sharing provider")


def _build_base_key(
    question: query.Question, request: Mapping[str, Any], device: str
) -> Iterable[object]:
    """Yield what is equal for allocation requests with the same base."""
    mappings = request["mappings"]
    for suffix in question.other_suffixes:
        providers = mappings[suffix]
        if len(providers) == 1:
            yield providers[0]
            continue
        # Several providers serve the unsuffixed group, and the mapping does
        # not tell which of them gives what.
        base = _subtract_device(request, device, question.classes[0].resources)
        yield frozenset(
            (provider, *item)
            for provider, resources in base.items()
            for item in resources.items()
        )


def _subtract_device(
    request: Mapping[str, Any],
    device: str,
    resources: Iterable[tuple[str, int]],
) -> dict[str, dict[str, int]]:
    """Return the allocations of a request less what its device gives."""
    base = {
        provider: dict(allocation["resources"])
        for provider, allocation in request["allocations"].items()
    }
    left = base[device]
    for resource_class, amount in resources:
        left[resource_class] -= amount
        if not left[resource_class]:
            del left[resource_class]
    if not left:
        del base[device]
    return base


def drop_short(
    question: query.Question, found: Iterable[Tree], summaries: Summaries
) -> list[Tree]:
    """Drop trees that have less than all groups together ask for.

    :param found: trees that share no provider with others, so that whatever
        serves the base, it is of the tree.
    """
    free_by_root: dict[str, collections.Counter[str]] = {}
    for summary in summaries.values():
        free = free_by_root.setdefault(
            summary["root_provider_uuid"], collections.Counter()
        )
        for resource_class, inventory in summary["resources"].items():
            # An operator may have lowered a capacity below what is used.
            free[resource_class] += max(
                0, inventory["capacity"] - inventory["used"]
            )
    asked: collections.Counter[str] = collections.Counter()
    for group_class in question.classes:
        for resource_class, amount in group_class.resources:
            asked[resource_class] += amount * group_class.size
    kept = []
    for tree in found:
        # All bases take the same, of other providers.
        wanted = asked + sum(
            map(
                collections.Counter,
                tree.base_allocations[0].allocations.values(),
            ),
            collections.Counter(),
        )
        if wanted <= free_by_root[tree.root]:
            kept.append(tree)
    return kept
