# SPDX-License-Identifier: Apache-2.0

"""The devices of one tree, and what they can give to whom."""

from collections.abc import Collection
from collections.abc import Sequence
import functools
import operator
from typing import TypeAlias

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import device_links
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import trees

_MOST_CLASSES_COUNTED = 6
"""Classes of which all subsets are looked at."""

DeviceSet: TypeAlias = tuple[str, ...]
"""Provider UUIDs, one for each group of a class; a provider that serves
several groups stands several times."""

Combination: TypeAlias = tuple[sets.IndexSet, ...]
"""A device set for each class, by the indexes of devices in the tree."""

Within: TypeAlias = Sequence[Sequence[int]]
"""For each class and device: 1 if the device may be used, else 0."""

Shares: TypeAlias = tuple[int, ...]
"""How many groups of a class each device can serve."""

_Left: TypeAlias = tuple[Sequence[tuple[int, int]], Sequence[tuple[str, int]]]
"""Of a device: (class, its index in the class) of each that it can serve, and
(resource class, amount) that it has left."""


class TreeDevices:
    """The devices of one tree, numbered for each class."""

    def __init__(
        self, asked: candidates_request.Request, tree: trees.Tree
    ) -> None:
        """Look at the devices that have what a class asks for, free or not."""
        self._asked = asked
        self._classes = asked.question.classes
        self._isolate = asked.question.isolate
        # A device that cannot serve a class, for its traits or aggregates,
        # has no share in it.
        self._usable = [frozenset(found) for found in tree.devices]
        self._shares_by_base: dict[int, tuple[Shares, ...]] = {}
        self._left_by_base: dict[int, list[_Left]] = {}
        self.names: list[Sequence[str]] = []
        """For each class, the devices in the order of their indexes."""
        self.topologies: list[device_links.Topology] = []
        """For each class, how its devices are linked."""
        for found in asked.providers_by_root[tree.root]:
            names, links = device_links.arrange(found, asked.summaries)
            self.names.append(names)
            self.topologies.append(links)
        self._place_by_device = [
            {device: place for place, device in enumerate(found)}
            for found in self.names
        ]
        self.compete = self._do_classes_compete(tree)
        """Whether what one class gets could be missing to another."""

    def _do_classes_compete(self, tree: trees.Tree) -> bool:
        return len(self._classes) > 1 and any(
            len(indexes) > 1
            and not self._is_enough_for_all(device, indexes, tree)
            for device, indexes in tree.list_classes_by_device().items()
        )

    def _is_enough_for_all(
        self, device: str, indexes: Sequence[int], tree: trees.Tree
    ) -> bool:
        """Whether a device could serve all groups of some classes at once."""
        if self._isolate:
            return False
        wanted: dict[str, int] = {}
        for index in indexes:
            found = self._classes[index]
            for resource_class, amount in found.resources:
                wanted[resource_class] = (
                    wanted.get(resource_class, 0) + amount * found.size
                )
        remaining_capacity = self._asked.remaining_capacity[device]
        return all(
            remaining_capacity[resource_class]
            >= amount
            + max(
                base.allocations.get(device, {}).get(resource_class, 0)
                for base in tree.base_allocations
            )
            for resource_class, amount in wanted.items()
        )

    def count_shares_of_all(
        self, base: trees.BaseAllocation
    ) -> tuple[Shares, ...]:
        """Return the shares of all classes, each as if it were alone."""
        known = self._shares_by_base.get(id(base))
        if known is None:
            known = self._shares_by_base[id(base)] = self._count_shares(base)
        return known

    def count_shares_without_base(
        self, base: trees.BaseAllocation
    ) -> tuple[Shares, ...]:
        """Return the shares of all classes, as if a base got nothing."""
        return self._count_shares(trees.BaseAllocation({}, {}, base.devices))

    def _count_shares(self, base: trees.BaseAllocation) -> tuple[Shares, ...]:
        found = []
        for group_class, names, usable in zip(
            self._classes, self.names, self._list_usable(base), strict=True
        ):
            most = 1 if self._isolate else group_class.size
            found.append(
                tuple(
                    min(most, self._count_share(device, group_class, base))
                    if device in usable
                    else 0
                    for device in names
                )
            )
        return tuple(found)

    def _list_usable(
        self, base: trees.BaseAllocation
    ) -> list[Collection[str]]:
        """List for each class the devices that a base leaves to it."""
        usable = [frozenset(base.devices), *self._usable[1:]]
        if self._isolate:
            closed = base.granular_providers
            return [devices - closed for devices in usable]
        return [*usable]

    def _count_share(
        self,
        device: str,
        group_class: query.GroupClass,
        base: trees.BaseAllocation,
    ) -> int:
        remaining = self._asked.remaining_capacity[device]
        taken = base.allocations.get(device, {})
        return min(
            (remaining[resource_class] - taken.get(resource_class, 0))
            // amount
            for resource_class, amount in group_class.resources
        )

    def count_shares_beside(
        self,
        index: int,
        base: trees.BaseAllocation,
        combination: Combination,
        within: Within | None,
    ) -> Shares:
        """Return the shares of a class.

        :param combination: what the classes before it have.
        :param within: the devices that may be used; None for all.
        """
        shares = self.count_shares_of_all(base)[index]
        if self.compete and combination:
            shares = self._subtract(index, base, shares, combination)
        if within is None:
            return shares
        return tuple(map(operator.mul, shares, within[index]))

    def _subtract(
        self,
        index: int,
        base: trees.BaseAllocation,
        shares: Shares,
        combination: Combination,
    ) -> Shares:
        """Return what the sets of other classes leave of some shares."""
        given: dict[str, dict[str, int]] = {}
        for group_class, names, found in zip(
            self._classes, self.names, combination, strict=False
        ):
            for place in found:
                amounts = given.setdefault(names[place], {})
                for resource_class, amount in group_class.resources:
                    amounts[resource_class] = (
                        amounts.get(resource_class, 0) + amount
                    )
        left = list(shares)
        for device, amounts in given.items():
            mine = self._place_by_device[index].get(device)
            if mine is None or not left[mine]:
                continue
            if self._isolate:
                left[mine] = 0
                continue
            remaining = self._asked.remaining_capacity[device]
            taken = base.allocations.get(device, {})
            for resource_class, amount in self._classes[index].resources:
                left[mine] = min(
                    left[mine],
                    (
                        remaining[resource_class]
                        - taken.get(resource_class, 0)
                        - amounts.get(resource_class, 0)
                    )
                    // amount,
                )
        return tuple(left)

    def may_fit(
        self, base: trees.BaseAllocation, within: Within | None
    ) -> bool:
        """Whether no classes together ask for more than their devices have.

        Otherwise all ways to serve competing classes would be tried in vain.

        :param within: the devices that may be used; None for all.
        """
        if len(self._classes) > _MOST_CLASSES_COUNTED:
            return True
        # Resource class -> classes -> what the devices of just these have.
        left: dict[str, dict[int, int]] = {}
        for served, amounts in self._list_amounts_left(base):
            classes = 0
            for index, place in served:
                if within is None or within[index][place]:
                    classes |= 1 << index
            if classes:
                for name, amount in amounts:
                    by_classes = left.setdefault(name, {})
                    by_classes[classes] = by_classes.get(classes, 0) + amount
        for name, some, wanted in self._wanted:
            for classes, amount in left.get(name, {}).items():
                if classes & some:
                    wanted -= amount
            if wanted > 0:
                return False
        return True

    def _list_amounts_left(
        self, base: trees.BaseAllocation
    ) -> Sequence[_Left]:
        """List what a base leaves of each device that can serve a class.

        The empty name counts devices, of which each group needs its own.
        """
        known = self._left_by_base.get(id(base))
        if known is not None:
            return known
        served_by_device: dict[str, list[tuple[int, int]]] = {}
        usable = self._list_usable(base)
        for index, names in enumerate(self.names):
            for place, device in enumerate(names):
                if device in usable[index]:
                    served_by_device.setdefault(device, []).append(
                        (index, place)
                    )
        found = self._left_by_base[id(base)] = []
        for device, served in served_by_device.items():
            taken = base.allocations.get(device, {})
            # An operator may have lowered a capacity below what is used.
            amounts = [
                (name, max(0, amount - taken.get(name, 0)))
                for name, amount in self._asked.remaining_capacity[
                    device
                ].items()
            ]
            if self._isolate:
                amounts.append(("", 1))
            found.append((served, amounts))
        return found

    @functools.cached_property
    def _wanted(self) -> Sequence[tuple[str, int, int]]:
        """List what classes ask for together: (resource class, classes, sum).

        Of all sets of classes that ask for the resource class; those of others
        would only bring more devices.
        """
        wanted_by_name: dict[str, dict[int, int]] = {}
        for index, group_class in enumerate(self._classes):
            asked = dict(group_class.resources)
            if self._isolate:
                asked[""] = 1
            for name, amount in asked.items():
                sums = wanted_by_name.setdefault(name, {0: 0})
                sums |= {
                    classes | 1 << index: wanted + amount * group_class.size
                    for classes, wanted in sums.items()
                }
        return [
            (name, classes, wanted)
            for name, sums in wanted_by_name.items()
            for classes, wanted in sums.items()
            if classes
        ]

    def list_sets(self, combination: Combination) -> tuple[DeviceSet, ...]:
        """Return the device sets of a combination."""
        return tuple(
            tuple(names[index] for index in found)
            for names, found in zip(self.names, combination, strict=True)
        )
