# SPDX-License-Identifier: Apache-2.0

"""Which devices of one tree are near to those of other groups, as NICs are to
GPUs: both are chosen together."""

from collections.abc import Collection
from collections.abc import Sequence
import functools
from typing import TypeAlias

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import device_links
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import tree_devices
from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import companions

_MOST_LEADS = 3
"""Classes and single devices whose links are put before all others in turn."""

Part: TypeAlias = int | str
"""The index of a class, or the provider of a group in no class."""

CompanionRequests: TypeAlias = tuple[companions.CompanionRequest, ...]
"""What is chosen together with the devices of one part."""


class CompanionLinks:
    """How near the devices of one tree are to each other."""

    def __init__(
        self,
        asked: candidates_request.Request,
        found: tree_devices.TreeDevices,
        bases: Sequence[trees.BaseAllocation],
    ) -> None:
        """Take the devices of a tree."""
        self._asked = asked
        self._classes = asked.question.classes
        self._devices = found
        self._bases = bases
        self._near_by_parts: dict[
            tuple[Part, Part], companions.Companions | None
        ] = {}

    def list_linked_providers(
        self, base: trees.BaseAllocation
    ) -> Sequence[str]:
        """List the devices of a rest of which traits tell the links, or which
        may be the GPU."""
        summaries = self._asked.summaries
        return [
            provider
            for provider in sorted(base.granular_providers)
            if provider in self._gpus
            or device_links.list_link_traits(provider, summaries)
        ]

    def list_leads(self, single: Sequence[str]) -> Sequence[Part]:
        """List what may be the GPUs: their links count before all.

        A query does not say so. Where some devices have links of their own,
        these are the GPUs; else it may be any that are near to others, and
        the best for each of them are offered.

        :param single: devices of the base.
        """
        parts: list[Part] = [*range(len(self._classes)), *single]
        if len(parts) == 1 or self._devices.compete:
            return (0,)
        linked = [part for part in parts if part in self._gpus]
        if linked:
            return linked
        near_to_others = [
            part
            for part in parts
            if any(
                self.read_companions(part, other)
                for other in parts
                if other != part
            )
        ]
        return near_to_others[:_MOST_LEADS] or (0,)

    @functools.cached_property
    def _gpus(self) -> Collection[Part]:
        """What may be the GPUs, as some of the devices that can serve the same
        groups have links of their own."""
        summaries = self._asked.summaries
        found: list[Part] = [
            index
            for index, names in enumerate(self._devices.names)
            if device_links.have_direct_links(names, summaries)
        ]
        providers_by_suffix: dict[str, set[str]] = {}
        for base in self._bases:
            for suffix, providers in base.mappings.items():
                if suffix:
                    providers_by_suffix.setdefault(suffix, set()).update(
                        providers
                    )
        for served in providers_by_suffix.values():
            if device_links.have_direct_links(served, summaries):
                found += served
        return frozenset(found)

    def read_companions(
        self, lead: Part, part: Part
    ) -> companions.Companions | None:
        """Return how near two parts are, None where nothing tells that."""
        key = lead, part
        if key not in self._near_by_parts:
            self._near_by_parts[key] = device_links.read_companions(
                self._list_names(lead),
                self._list_names(part),
                self._asked.summaries,
            )
        return self._near_by_parts[key]

    def _list_names(self, part: Part) -> Sequence[str]:
        if isinstance(part, int):
            return self._devices.names[part]
        return (part,)

    def find_beside(
        self,
        lead: Part,
        shares: Sequence[tree_devices.Shares],
        single: Sequence[str],
    ) -> CompanionRequests:
        """Return what is chosen beside the devices of a part.

        :param shares: of all classes.
        :param single: devices of the base.
        """
        if self._devices.compete:
            return ()
        asked: list[tuple[Part, tree_devices.Shares, int]] = [
            (
                index,
                tuple(min(share, found.size) for share in shares[index]),
                found.size,
            )
            for index, found in enumerate(self._classes)
            if index != lead
        ]
        asked += [
            (provider, (1,), 1) for provider in single if provider != lead
        ]
        return tuple(
            companions.CompanionRequest(near, capacities, size)
            for part, capacities, size in asked
            if (near := self.read_companions(lead, part)) is not None
        )

    def judge(self, base: trees.BaseAllocation) -> tuple[object, ...]:
        """Judge the best that can be had with a base; greater is better."""
        single = self.list_linked_providers(base)
        shares = self._devices.count_shares_of_all(base)
        found: list[tuple[bool, object]] = []
        for lead in self.list_leads(single):
            beside = self.find_beside(lead, shares, single)
            if isinstance(lead, int):
                judged: object = sets.judge(
                    self._devices.topologies[lead],
                    shares[lead],
                    self._classes[lead].size,
                    self._asked.mix,
                    beside,
                ).score
            else:
                judged = companions.add_pairs(
                    [by.pair(1).pairs for by in beside]
                )
            # Only scores of one form are compared with each other.
            found.append((isinstance(lead, int), judged))
        return tuple(found)
