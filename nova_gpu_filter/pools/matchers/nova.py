# SPDX-License-Identifier: Apache-2.0

"""The matcher ``nova``: the answers of PciDeviceStats, without its copies."""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request


class NovaPoolMatcher(matcher.PoolMatcher):
    """Accepts exactly what ``PciDeviceStats.support_requests`` accepts.

    Nova deep-copies all pools for every candidate. Here what depends on
    request and pool only is worked out once a host, and a candidate changes
    nothing but a list of counts. Candidates keep their order.
    """

    orders = False

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


# To name a member of an Enum takes as long as the rest of a decision.
_DROPS = tuple(refusal.Drop)
_NOT_ALLOCATED = refusal.Drop.NOT_ALLOCATED
_LIVE_MIGRATABLE = refusal.Drop.LIVE_MIGRATABLE


def _tally(rp_uuids: list[str]) -> Mapping[Any, int]:
    """Count the devices that a candidate takes from each provider."""
    tally: dict[Any, int] = dict.fromkeys(rp_uuids, 1)
    if len(tally) == len(rp_uuids):
        return tally
    return collections.Counter(rp_uuids)  # Slower by far.


class HostQuestion:
    """What is the same for every candidate of one host and one request.

    Pools are named by their index in ``PciDeviceStats.pools``. A candidate is
    tried on ``counts``, the free devices by pool, where None stands for a pool
    that nova would have removed from the list because it was used up.
    """

    def __init__(
        self, host: matcher.HostPools, requests: request.DeviceRequests
    ) -> None:
        self._host = host
        self._pools = pools = host.pools
        self._requests = requests
        self._pool_by_rp_uuid = {pool.get("rp_uuid"): pool for pool in pools}
        # Else a provider stands in several pools, or several have none.
        self._one_pool_each = len(self._pool_by_rp_uuid) == len(pools)
        # The usual case, see _is_free.
        self._alone = (
            requests.requests[0]
            if len(requests.requests) == 1 and self._one_pool_each
            else None
        )
        self._free_by_rp_uuid: dict[str, int] = {}
        self._counts: list[int | None] = []
        self._rp_uuids: list[str | None] = []
        self._drops: list[list[refusal.Drop | None]] = []

    def accepts(self, mapping: request.ProviderMapping | None) -> bool:
        """Whether all requests fit at once, as ``apply_requests`` decides."""
        if self._alone is not None:
            rp_uuids = self._alone.collect_rp_uuids(mapping)
            if rp_uuids and len(set(rp_uuids)) == len(rp_uuids):
                return self._is_free(self._alone, rp_uuids)
        if not self._counts:
            self._prepare_all_pools()
        counts = self._counts
        last = len(self._requests.requests) - 1
        for turn, asked in enumerate(self._requests.requests):
            rp_uuids = asked.collect_rp_uuids(mapping)
            chosen = self._choose(turn, asked, rp_uuids, counts)
            if chosen is None:
                return False
            if turn < last:
                if counts is self._counts:
                    counts = counts.copy()
                self._consume(asked, rp_uuids, chosen, counts)
        return True

    def _is_free(
        self, asked: request.DeviceRequest, rp_uuids: list[str]
    ) -> bool:
        """Decide the usual case, as :meth:`_choose` would: one request, a
        provider for each pool, and one device of each provider."""
        free = self._free_by_rp_uuid
        pools = self._pool_by_rp_uuid
        left = 0
        for rp_uuid in rp_uuids:
            count = free.get(rp_uuid)
            if count is None:
                pool = pools.get(rp_uuid)
                usable = pool is not None and asked.drop(pool) is None
                count = free[rp_uuid] = pool["count"] if pool and usable else 0
            left += count
        return left >= max(asked.count, 1)

    def _prepare_all_pools(self) -> None:
        """Prepare for what :meth:`_is_free` cannot decide or explain."""
        self._counts = [pool["count"] for pool in self._pools]
        self._rp_uuids = [pool.get("rp_uuid") for pool in self._pools]
        # For each request why it cannot have a pool at all.
        self._drops = [
            [asked.drop(pool) for pool in self._pools]
            for asked in self._requests.requests
        ]

    def explain(
        self, mappings: Sequence[request.ProviderMapping | None]
    ) -> refusal.Refusal:
        """Say what the first candidate fails on.

        Only to be asked when :meth:`accepts` refuses the first candidate.
        """
        *others, last = enumerate(self._requests.requests)
        if others:
            self._prepare_all_pools()
        counts: list[int | None] = [pool["count"] for pool in self._pools]
        for turn, asked in others:
            rp_uuids = asked.collect_rp_uuids(mappings[0])
            chosen = self._choose(turn, asked, rp_uuids, counts)
            if chosen is None:
                break
            self._consume(asked, rp_uuids, chosen, counts)
        else:
            _, asked = last
            rp_uuids = asked.collect_rp_uuids(mappings[0])
        return self._build_refusal(asked, rp_uuids, counts, len(mappings))

    def _choose(
        self,
        turn: int,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        counts: list[int | None],
    ) -> list[int] | None:
        """List pools that serve a request, in nova's order; None if they
        cannot. As each of nova's steps only removes pools, the last decides.
        """
        drops = self._drops[turn]
        pools: Iterable[int] = range(len(counts))
        if rp_uuids:
            # Those that can give what the candidate takes of them.
            wanted, uuids = _tally(rp_uuids), self._rp_uuids
            pools = [
                index
                for index in pools
                if uuids[index] in wanted
                and (counts[index] or 0) >= wanted[uuids[index]]
            ]
            if not self._one_pool_each and self._is_split(counts):
                return None
        left = 0
        chosen = []
        for index in pools:
            count = counts[index]
            if count is not None and drops[index] is None:
                left += count
                chosen.append(index)
        return chosen if chosen and left >= asked.count else None

    def _consume(
        self,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        chosen: list[int],
        counts: list[int | None],
    ) -> None:
        """Take the devices from ``counts``, for the next request to see."""
        if rp_uuids:
            wanted = _tally(rp_uuids)
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

    def _build_refusal(
        self,
        asked: request.DeviceRequest,
        rp_uuids: list[str],
        counts: list[int | None],
        candidates: int,
    ) -> refusal.Refusal:
        """Follow nova's steps one by one and name the one that was fatal."""
        wanted = _tally(rp_uuids)
        free = 0
        lost: dict[refusal.Drop, int] = {}
        for pool, count in zip(self._pools, counts, strict=True):
            if not count:
                continue
            free += count
            drop = asked.drop(pool)
            if wanted and (drop is None or drop is _LIVE_MIGRATABLE):
                rp_uuid = pool.get("rp_uuid")
                if rp_uuid not in wanted or count < wanted[rp_uuid]:
                    drop = _NOT_ALLOCATED
            if drop is not None:
                lost[drop] = lost.get(drop, 0) + count
        dropped = tuple((drop, lost[drop]) for drop in _DROPS if drop in lost)
        left = free
        cause = refusal.Cause.SPLIT_PROVIDER
        for drop, count in dropped:
            if left >= asked.count > left - count:
                cause = refusal.CAUSE_BY_DROP[drop]
            left -= count
        if free < asked.count:
            cause = refusal.Cause.TOO_FEW_DEVICES
        return refusal.Refusal(
            cause=cause,
            request=asked.name,
            asked=asked.count,
            specs=asked.specs,
            free=free,
            dropped=dropped,
            candidates=candidates,
        )
