# SPDX-License-Identifier: Apache-2.0

"""Find out how much of each device one consumer can get."""

import bisect
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TypeAlias

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees

RemainingCapacity: TypeAlias = Mapping[str, Mapping[str, int]]
"""Provider UUID -> resource class -> how much one consumer can get."""


def find(
    question: query.Question,
    found: Sequence[trees.Tree],
    summaries: trees.Summaries,
    ask: Callable[[query.GroupClass, str, int], Collection[str]],
) -> dict[str, dict[str, int]]:
    """Find out how much one consumer can get of each device.

    That is what is free, and no more than the ``max_unit`` of the inventory,
    which no answer shows. It matters where a device could serve several
    groups; the devices that can give the sum are then asked for, at most
    about log2(groups) times a resource class. ``min_unit`` and ``step_size``
    need no asking: a sum of good amounts is good. The rules are those of
    ``exceeds_capacity`` in placement/objects/research_context.py.

    :param ask: returns the providers that could serve a group of the class if
        it asked for this amount of this resource class alone.
    """
    remaining_capacity: dict[str, dict[str, int]] = {}
    doubts: dict[tuple[int, str], dict[str, list[int]]] = {}
    # Most devices of a cloud are alike, and the base takes nothing of them.
    doubtful_by_kind: dict[object, Mapping[str, tuple[int, list[int]]]] = {}
    for tree in found:
        given = {p for base in tree.base_allocations for p in base.allocations}
        for device, indexes in tree.list_classes_by_device().items():
            free = remaining_capacity[device] = {
                resource_class: inventory["capacity"] - inventory["used"]
                for resource_class, inventory in summaries[device][
                    "resources"
                ].items()
            }
            kind = (
                device if device in given else None,
                *indexes,
                *free.items(),
            )
            doubtful = doubtful_by_kind.get(kind)
            if doubtful is None:
                doubtful = doubtful_by_kind[kind] = _list_doubtful_amounts(
                    question, tree, device, indexes, free
                )
            for resource_class, (index, amounts) in doubtful.items():
                doubts.setdefault((index, resource_class), {})[device] = (
                    amounts
                )
    for (index, resource_class), amounts_by_device in doubts.items():
        for device, amount in _settle(
            amounts_by_device,
            lambda amount, index=index, rc=resource_class: ask(  # type: ignore[misc]
                question.classes[index], rc, amount
            ),
        ).items():
            remaining_capacity[device][resource_class] = amount
    return remaining_capacity


def _list_doubtful_amounts(
    question: query.Question,
    tree: trees.Tree,
    device: str,
    indexes: Sequence[int],
    free: Mapping[str, int],
) -> dict[str, tuple[int, list[int]]]:
    """List the sums that a device could have to give and might not be able to.

    :param indexes: the classes that the device can serve.
    :returns: resource class -> (a class that asks for it, amounts in
        ascending order; the first is known to be good).
    """
    doubtful = {}
    base_uses: dict[str, set[int]] = {}
    for base in tree.base_allocations:
        for resource_class, amount in base.allocations.get(device, {}).items():
            base_uses.setdefault(resource_class, set()).add(amount)
    indexes_by_resource: dict[str, list[int]] = {}
    for index in indexes:
        for resource_class, _ in question.classes[index].resources:
            indexes_by_resource.setdefault(resource_class, []).append(index)
    for resource_class, asking in indexes_by_resource.items():
        singles = set(base_uses.get(resource_class, ()))
        sums = {0, *singles}
        limit = free[resource_class]
        for index in asking:
            group_class = question.classes[index]
            amount = dict(group_class.resources)[resource_class]
            singles.add(amount)
            most = 1 if question.isolate else group_class.size
            sums = {
                total + times * amount
                for total in sums
                for times in range(most + 1)
                if total + times * amount <= limit
            }
        known = max(singles)
        unknown = sorted(total for total in sums if total > known)
        if unknown:
            doubtful[resource_class] = (asking[0], [known, *unknown])
    return doubtful


def _settle(
    amounts_by_device: Mapping[str, list[int]],
    ask: Callable[[int], Collection[str]],
) -> dict[str, int]:
    """Find the largest amount that each device can give.

    Most inventories have no ``max_unit`` below what is free, so the largest
    amount is asked for first; then the range is halved.

    :param amounts_by_device: ascending, the first known to be good.
    :param ask: returns the devices that can give an amount.
    """
    settled = {}
    # (index of the largest amount known to be good, of the smallest known to
    # be too much)
    bounds = {
        device: (0, len(amounts))
        for device, amounts in amounts_by_device.items()
    }
    while bounds:
        # The largest first: who can give it can give less, in sums.
        amount = max(
            amounts_by_device[device][
                bad - 1
                if bad == len(amounts_by_device[device])
                else (good + bad) // 2
            ]
            for device, (good, bad) in bounds.items()
        )
        able = ask(amount)
        for device, (good, bad) in list(bounds.items()):
            amounts = amounts_by_device[device]
            if device in able:
                good = max(good, bisect.bisect(amounts, amount, hi=bad) - 1)
            elif amount in amounts[good + 1 : bad]:
                bad = amounts.index(amount)
            bounds[device] = (good, bad)
            if bad - good == 1:
                settled[device] = amounts[good]
                del bounds[device]
    return settled
