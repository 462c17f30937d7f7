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
        "_drops",
        "_host",
        "_index_by_rp_uuid",
        "_may_be_split",
        "_pools",
        "_requests",
        "_rp_uuids",
    )

    def __init__(
        self, host: matcher.HostPools, requests: request.DeviceRequests
    ) -> None:
        self._host = host
        self._pools = pools = host.pools
        self._requests = requests
        self._counts: list[int | None] = [pool["count"] for pool in pools]
        self._rp_uuids = rp_uuids = [pool.get("rp_uuid") for pool in pools]
        self._index_by_rp_uuid = {
            rp_uuid: index for index, rp_uuid in enumerate(rp_uuids)
        }
        self._may_be_split = len(self._index_by_rp_uuid) != len(pools)
        # For each request what it says of the pools that were asked about: a
        # candidate of few devices needs few of them.
        self._drops: tuple[dict[int, refusal.Drop | None], ...] = tuple(
            {} for _ in requests.requests
        )

    def accepts(self, mapping: request.ProviderMapping | None) -> bool:
        """Whether all requests fit at once, as ``apply_requests`` decides."""
        requests = self._requests
        if len(requests.requests) == 1 and not requests.numa_cells:
            rp_uuids = requests.requests[0].rp_uuids_in(mapping)
            if (
                rp_uuids
                and not self._may_be_split
                and len(set(rp_uuids)) == len(rp_uuids)
            ):
                return self._accepts_one_each(rp_uuids)
        counts = self._counts
        last = len(requests.requests) - 1
        for turn, asked in enumerate(requests.requests):
            rp_uuids = asked.rp_uuids_in(mapping)
            chosen = self._choose(turn, asked, rp_uuids, counts)
            if chosen is None:
                return False
            if turn < last:
                if counts is self._counts:
                    counts = counts.copy()
                self._consume(asked, rp_uuids, chosen, counts)
        return True

    def _accepts_one_each(self, rp_uuids: list[str]) -> bool:
        """Decide the usual case: one request, each device another provider.

        The same as :meth:`_choose` says, without looking at other pools.
        """
        left = 0
        for rp_uuid in rp_uuids:
            index = self._index_by_rp_uuid.get(rp_uuid)
            if index is not None and self._drop(0, index) is None:
                left += self._counts[index] or 0
        # Left devices are at least one, as a pool without any is none.
        return left >= max(self._requests.requests[0].count, 1)

    def _drop(self, turn: int, index: int) -> refusal.Drop | None:
        """Say why a request cannot have a pool at all, None if it can."""
        drops = self._drops[turn]
        try:
            return drops[index]
        except KeyError:
            asked = self._requests.requests[turn]
            drops[index] = drop = asked.drop(self._pools[index])
            return drop

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
        pools: Iterable[int] = range(len(counts))
        if self._requests.numa_cells:
            pools = self._on_numa_cells(turn, asked, counts)
        if rp_uuids:
            pools = self._allocated(pools, rp_uuids, counts)
            if self._may_be_split and self._is_split(counts):
                return None
        left = 0
        chosen = []
        for index in pools:
            count = counts[index]
            if count is not None and self._drop(turn, index) is None:
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
        matching = [
            index
            for index, count in enumerate(counts)
            if count is not None
            and self._drop(turn, index) is not refusal.Drop.PROPERTIES
        ]

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
        near = set(
            self._on_numa_cells(turn, asked, counts)
            if self._requests.numa_cells
            else range(len(counts))
        )
        allocated = set(
            self._allocated(range(len(counts)), rp_uuids, counts)
            if rp_uuids
            else range(len(counts))
        )
        for index in range(len(counts)):
            drop = self._drop(turn, index)
            if drop is not refusal.Drop.PROPERTIES and index not in near:
                drop = refusal.Drop.NUMA
            elif index not in allocated and drop in (
                None,
                refusal.Drop.LIVE_MIGRATABLE,
            ):
                drop = refusal.Drop.NOT_ALLOCATED
            if drop is not None:
                why[index] = drop
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
