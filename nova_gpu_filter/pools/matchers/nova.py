# SPDX-License-Identifier: Apache-2.0

"""The matcher ``nova``: the answers of PciDeviceStats, without its copies."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request


class NovaPoolMatcher(matcher.PoolMatcher):
    """Accepts exactly what ``PciDeviceStats.support_requests`` accepts.

    Nova deep-copies all pools for every candidate, since it applies the
    requests to the copy to see whether they fit. Here the pools stay as they
    are: what depends on request and pool only is worked out once a host, and
    a candidate changes nothing but a list of counts. Candidates keep their
    order.
    """

    def match(
        self,
        host: matcher.HostPools,
        requests: request.DeviceRequests,
        mappings: Sequence[request.ProviderMapping | None],
    ) -> matcher.Match:
        """See :meth:`nova_gpu_filter.pools.matcher.PoolMatcher.match`."""
        if not mappings:
            return matcher.Match(
                (), refusal.Refusal(refusal.Cause.NO_CANDIDATE)
            )
        if not host.pools:
            return matcher.Match(
                (), refusal.Refusal(refusal.Cause.NO_PCI_DEVICES)
            )
        question = HostQuestion(host, requests)
        accepted = [
            index
            for index, mapping in enumerate(mappings)
            if question.accepts(mapping)
        ]
        if accepted:
            return matcher.Match(accepted)
        return matcher.Match((), question.explain(mappings))


class HostQuestion:
    """What is the same for every candidate of one host and one request.

    Pools are named by their index in ``PciDeviceStats.pools``. A candidate is
    tried on ``counts``, the free devices by pool, where None stands for a pool
    that nova would have removed from the list because it was used up.
    """

    __slots__ = (
        "_counts",
        "_duplicate_rp_uuids",
        "_host",
        "_matching",
        "_pools",
        "_requests",
        "_rp_uuids",
        "_usable",
    )

    def __init__(
        self, host: matcher.HostPools, requests: request.DeviceRequests
    ) -> None:
        self._host = host
        self._pools = pools = host.pools
        self._requests = requests
        self._counts: list[int | None] = [pool["count"] for pool in pools]
        self._rp_uuids = [pool.get("rp_uuid") for pool in pools]
        named = [pool["rp_uuid"] for pool in pools if "rp_uuid" in pool]
        self._duplicate_rp_uuids = len(set(named)) != len(named)
        # For each request the pools that match it, and those of them that it
        # may use. NUMA policies look at the former, see _on_numa_cells.
        self._matching: list[list[int]] = []
        self._usable: list[list[int]] = []
        for asked in requests.requests:
            matching = [
                index
                for index, pool in enumerate(pools)
                if asked.matches(pool)
            ]
            self._matching.append(matching)
            self._usable.append(
                [i for i in matching if asked.unusable(pools[i]) is None]
            )

    def accepts(self, mapping: request.ProviderMapping | None) -> bool:
        """Whether all requests fit at once, as ``apply_requests`` decides."""
        counts = self._counts
        last = len(self._requests.requests) - 1
        for turn, asked in enumerate(self._requests.requests):
            rp_uuids = asked.rp_uuids_in(mapping)
            chosen = self._choose(turn, asked, rp_uuids, counts)
            if chosen is None:
                return False
            if turn < last:
                if counts is self._counts:
                    counts = counts.copy()
                self._consume(asked, rp_uuids, chosen, counts)
        return True

    def explain(
        self, mappings: Sequence[request.ProviderMapping | None]
    ) -> refusal.Refusal:
        """Say what the first candidate fails on.

        Only to be asked when :meth:`accepts` refuses the first candidate.
        """
        counts = self._counts.copy()
        for turn, asked in enumerate(self._requests.requests):
            rp_uuids = asked.rp_uuids_in(mappings[0])
            chosen = self._choose(turn, asked, rp_uuids, counts)
            if chosen is None:
                return self._refusal(
                    turn, asked, rp_uuids, counts, len(mappings)
                )
            self._consume(asked, rp_uuids, chosen, counts)
        raise AssertionError("the first candidate fits: nothing to explain")

    def _choose(
        self,
        turn: int,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        counts: list[int | None],
    ) -> list[int] | None:
        """Pools that serve a request, in nova's order; None if they cannot.

        Nova checks after each step that enough devices are left. As every
        step only removes pools, the last check alone decides.
        """
        pools = self._usable[turn]
        if self._requests.numa_cells:
            near = self._on_numa_cells(turn, asked, counts)
            usable = set(pools)
            pools = [index for index in near if index in usable]
        if rp_uuids:
            pools = self._allocated(pools, rp_uuids, counts)
            if self._duplicate_rp_uuids and self._is_split(counts):
                return None
        left = 0
        chosen = []
        for index in pools:
            count = counts[index]
            if count is not None:
                left += count
                chosen.append(index)
        return chosen if chosen and left >= asked.count else None

    def _allocated(
        self,
        pools: Iterable[int],
        rp_uuids: list[str],
        counts: list[int | None],
    ) -> list[int]:
        """Keep the pools that can give what the candidate takes of them."""
        wanted: collections.Counter[Any] = collections.Counter(rp_uuids)
        return [
            index
            for index in pools
            if (uuid := self._rp_uuids[index]) in wanted
            and (count := counts[index]) is not None
            and count >= wanted[uuid]
        ]

    def _on_numa_cells(
        self,
        turn: int,
        asked: request.DeviceRequest,
        counts: list[int | None],
    ) -> list[int]:
        """Matching pools that the NUMA policy allows, strictest policy first.

        See ``_filter_pools_for_numa_cells`` in nova/pci/stats.py: a stricter
        affinity is used wherever it gives enough devices, counted before
        physical functions and the like are dropped.
        """
        pools, numa_cells = self._pools, self._requests.numa_cells or ()
        matching = [i for i in self._matching[turn] if counts[i] is not None]

        def among(nodes: Iterable[int | None]) -> list[int]:
            allowed = set(nodes)
            return [
                i for i in matching if pools[i].get("numa_node") in allowed
            ]

        def enough(chosen: list[int]) -> bool:
            return sum(counts[i] or 0 for i in chosen) >= asked.count

        near = among(numa_cells)
        if asked.numa_policy == "required" or enough(near):
            return near
        if asked.numa_policy == "socket":
            return among(self._nodes_of_sockets(numa_cells))
        near = among((*numa_cells, None))
        if asked.numa_policy == "legacy" or enough(near):
            return near
        first = set(near)
        return sorted(matching, key=lambda index: index not in first)

    def _nodes_of_sockets(self, numa_cells: Iterable[int]) -> list[int]:
        """Host NUMA nodes on the sockets of the guest's cells.

        Empty when the host does not report a socket for each of its cells.
        """
        sockets = self._host.socket_by_numa_node
        if None in sockets.values():
            return []
        wanted = {sockets[cell] for cell in numa_cells if cell in sockets}
        return [node for node, socket in sockets.items() if socket in wanted]

    def _consume(
        self,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        chosen: list[int],
        counts: list[int | None],
    ) -> None:
        """Take the devices from ``counts``, for the next request to see."""
        if rp_uuids:
            wanted: collections.Counter[Any] = collections.Counter(rp_uuids)
            for index in chosen:
                count = counts[index]
                assert count is not None
                counts[index] = (count - wanted[self._rp_uuids[index]]) or None
            return
        missing = asked.count
        for index in chosen:
            count = counts[index]
            assert count is not None
            if count > missing:
                counts[index] = count - missing
                return
            counts[index] = None
            missing -= count
            if not missing:
                return

    def _is_split(self, counts: list[int | None]) -> bool:
        """Whether one provider stands in several pools, which nova refuses."""
        uuids = [
            pool["rp_uuid"]
            for pool, count in zip(self._pools, counts, strict=True)
            if count is not None and "rp_uuid" in pool
        ]
        return len(set(uuids)) != len(uuids)

    def _refusal(
        self,
        turn: int,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        counts: list[int | None],
        candidates: int,
    ) -> refusal.Refusal:
        """Follow nova's steps one by one and name the one that was fatal."""
        free = sum(count or 0 for count in counts)
        why: dict[int, refusal.Drop] = {}
        near = (
            set(self._on_numa_cells(turn, asked, counts))
            if self._requests.numa_cells
            else set(self._matching[turn])
        )
        allocated = set(
            self._allocated(range(len(counts)), rp_uuids, counts)
            if rp_uuids
            else range(len(counts))
        )
        for index, pool in enumerate(self._pools):
            unusable = asked.unusable(pool)
            if index not in self._matching[turn]:
                why[index] = refusal.Drop.PROPERTIES
            elif index not in near:
                why[index] = refusal.Drop.NUMA
            elif index not in allocated and unusable in (
                None,
                refusal.Drop.LIVE_MIGRATABLE,
            ):
                why[index] = refusal.Drop.NOT_ALLOCATED
            elif unusable is not None:
                why[index] = unusable
        left = free
        cause = refusal.Cause.SPLIT_PROVIDER
        dropped = []
        for drop in refusal.Drop:
            lost = sum(
                counts[index] or 0 for index, d in why.items() if d is drop
            )
            if lost:
                dropped.append((drop, lost))
            if left >= asked.count > left - lost:
                cause = refusal.CAUSE_BY_DROP[drop]
            left -= lost
        if free < asked.count:
            cause = refusal.Cause.TOO_FEW_DEVICES
        return refusal.Refusal(
            cause=cause,
            request=asked.name,
            asked=asked.count,
            specs=asked.specs,
            free=free,
            dropped=tuple(dropped),
            candidates=candidates,
        )
