# SPDX-License-Identifier: Apache-2.0

"""The matcher ``topology``: what nova accepts, the best device set first."""

from collections.abc import Sequence
import functools

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import spreading
from nova_gpu_filter.pools import usable_devices
from nova_gpu_filter.pools.matchers import nova
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.topology import make_mask


class TopologyPoolMatcher(nova.NovaPoolMatcher):
    """Accepts what the matcher ``nova`` accepts, and orders it by links.

    Candidates whose devices violate a required ``gpu:link`` are refused. The
    others come best first, see :mod:`nova_gpu_filter.topology.choice`, with
    the devices of further aliases, such as NICs. Nothing else is refused, so
    that a request for several instances, and NUMATopologyFilter, which runs
    later, find the candidate that they need.

    Before all of this goes ``gpu:spread``, for virtual functions: how many
    physical devices they come from.

    When a server moves, nova-compute makes its PCI requests anew and takes the
    first devices that match (``_move_claim`` in
    nova/compute/resource_tracker.py). Then the candidate with those devices
    comes first, so that Placement and Nova agree, and a required ``gpu:link``
    refuses hosts on which they violate it.

    Without PCI in Placement nova-compute takes any free devices of the pools,
    so there is no order to choose; a required ``gpu:link`` then refuses every
    host on which it could take a set that violates it.
    """

    orders = True

    def match(
        self,
        host: matcher.HostPools,
        requests: request.DeviceRequests,
        mappings: Sequence[request.ProviderMapping | None],
    ) -> matcher.Match:
        """See :meth:`nova_gpu_filter.pools.matcher.PoolMatcher.match`."""
        if requests.bad_link_policy is not None:
            return matcher.Match(
                (),
                refusal.Refusal(
                    refusal.Cause.BAD_EXTRA_SPEC,
                    detail=requests.bad_link_policy,
                ),
            )
        match = super().match(host, requests, mappings)
        lead = requests.requests[0]
        # Nova accepts a flavor that asks for 0 devices (h100:0), too.
        if not match.accepted or lead.alias_name is None or not lead.count:
            return match
        if usable_devices.are_comparable(host.pools, lead):
            match = _Order(host, requests).match(mappings, match.accepted)
        else:
            match = _keep_order(host, requests, mappings, match.accepted)
        # A move has no choice.
        if requests.spread is None or requests.first_fit or not match.accepted:
            return match
        return matcher.Match(
            spreading.order(
                host.pools, lead, requests.spread, mappings, match.accepted
            )
        )


class _Order:
    """The order of the candidates of one host for one request."""

    def __init__(
        self, host: matcher.HostPools, requests: request.DeviceRequests
    ) -> None:
        self._host = host
        self._requests = requests
        self._lead = requests.requests[0]
        self._devices = usable_devices.find_usable(host.pools, self._lead)

    def match(
        self,
        mappings: Sequence[request.ProviderMapping | None],
        accepted: Sequence[int],
    ) -> matcher.Match:
        """Sort the candidates that Nova accepts, or refuse the host."""
        refused = self._refuse_move()
        if refused is None:
            ordered = self._sort_candidates(mappings, accepted)
            if ordered:
                return matcher.Match(ordered)
            refused = self._refuse_links(len(accepted))
        return matcher.Match((), refused)

    @functools.cached_property
    def _first_fit(self) -> int | None:
        """The devices that nova-compute will take of itself; None where it
        follows the allocation, or that cannot be foreseen."""
        if not self._requests.first_fit:
            return None
        mask, missing = 0, self._lead.count
        for pool in self._host.pools:
            if not missing:
                break
            if pool["count"] and self._lead.drop(pool) is None:
                bit = self._devices.bit_by_rp_uuid.get(pool.get("rp_uuid", ""))
                if bit is None or pool["count"] > 1:
                    return None
                mask |= 1 << bit
                missing -= 1
        return mask

    def _refuse_move(self) -> refusal.Refusal | None:
        """Refuse a move that would end on devices against the policy."""
        mask, policy = self._first_fit, self._requests.link_policy
        if (
            mask is None
            or policy is None
            or not policy.required
            or _satisfies(self._requests, self._devices, mask)
        ):
            return None
        devices = " ".join(self._devices.list_addresses(mask))
        return refusal.Refusal(
            refusal.Cause.MOVE,
            request=self._lead.name,
            asked=self._lead.count,
            specs=self._lead.specs,
            free=len(self._devices.names),
            detail=f"Nova takes the first free devices for a server that"
            f" moves, here {devices}, which are no {policy.link.value} set;"
            f" {self._lead.name} asks for {self._lead.count} with"
            f" gpu:link={policy.link.value}",
        )

    def _refuse_links(self, candidates: int) -> refusal.Refusal:
        """Say which links are missing, and what could be had instead."""
        policy, topology = self._requests.link_policy, self._devices.topology
        assert policy is not None, "only a required policy refuses"
        return refusal.Refusal(
            refusal.Cause.LINK,
            request=self._lead.name,
            asked=self._lead.count,
            specs=self._lead.specs,
            free=len(self._devices.names),
            candidates=candidates,
            links=refusal.find_link_shortage(
                topology,
                topology.everything,
                self._devices.list_addresses,
                self._lead.count,
                policy.link,
            ),
        )

    def _sort_candidates(
        self,
        mappings: Sequence[request.ProviderMapping | None],
        accepted: Sequence[int],
    ) -> list[int]:
        """Sort candidates, and drop those that a required policy refuses.

        :param accepted: indexes into ``mappings``.
        """
        providers = {
            index: self._lead.collect_rp_uuids(mappings[index])
            for index in accepted
        }
        sets = {
            index: mask
            for index, rp_uuids in providers.items()
            if len(rp_uuids) == self._lead.count
            and (mask := self._devices.make_mask(rp_uuids)) is not None
        }
        # Several VFs of one device, or any devices that nova-compute may like:
        # nothing to choose between.
        unordered = [index for index in accepted if index not in sets]
        if unordered and not _satisfies(
            self._requests, self._devices, self._devices.topology.everything
        ):
            unordered = []
        ordered = self._sort_by_rank(list(sets), sets, mappings)
        if self._first_fit is not None:
            ordered.sort(key=lambda index: sets[index] != self._first_fit)
        return ordered + unordered

    def _sort_by_rank(
        self,
        indexes: list[int],
        sets: dict[int, int],
        mappings: Sequence[request.ProviderMapping | None],
    ) -> list[int]:
        topology = self._devices.topology
        ranking = choice.rank_device_sets(
            topology,
            topology.everything,
            self._lead.count,
            self._requests.link_policy,
            self._requests.request_mix,
        )
        beside = self._companions
        if beside is None:
            order = ranking.order(
                [sets[index] for index in indexes], self._requests.seed
            )
        else:
            order = choice.order_paired_sets(
                ranking,
                [
                    (sets[index], *beside.judge(mappings[index]))
                    for index in indexes
                ],
                self._requests.seed,
            )
        return [indexes[place] for place in order]

    @functools.cached_property
    def _companions(self) -> "_Companions | None":
        """What else is asked for and can be compared with the first."""
        others = [
            asked
            for asked in self._requests.requests[1:]
            if asked.alias_name is not None and asked.count
        ]
        if not others or not usable_devices.are_comparable(
            self._host.pools, self._lead, *others
        ):
            return None
        return _Companions(self._host, self._lead, others)


class _Companions:
    """The devices of the other aliases, such as NICs, and the first one's."""

    def __init__(
        self,
        host: matcher.HostPools,
        lead: request.DeviceRequest,
        others: Sequence[request.DeviceRequest],
    ) -> None:
        self._lead = lead
        self._others = others
        self._devices = usable_devices.find_usable(host.pools, lead, *others)
        self._companions = companions.build_for_all_devices(
            self._devices.topology
        )
        self._pairs: dict[tuple[int, tuple[int, ...]], companions.Pairs] = {}

    def judge(
        self, mapping: request.ProviderMapping | None
    ) -> tuple[companions.Pairs, int]:
        """Say how near the devices of a candidate are to each other.

        :returns: the pairs of all other aliases together, and the set of all
            devices that the candidate takes.
        """
        first = self._devices.list_bits(self._lead.collect_rp_uuids(mapping))
        taken = make_mask(first)
        pairs = []
        for asked in self._others:
            beside = self._devices.list_bits(asked.collect_rp_uuids(mapping))
            pairs.append(self._pair(make_mask(first), tuple(sorted(beside))))
            taken |= make_mask(beside)
        return companions.add_pairs(pairs), taken

    def _pair(self, first: int, beside: tuple[int, ...]) -> companions.Pairs:
        key = first, beside
        found = self._pairs.get(key)
        if found is None:
            capacities = [0] * self._devices.topology.n
            for device in beside:
                capacities[device] += 1
            found = self._pairs[key] = self._companions.pair(
                first, capacities, len(beside)
            ).pairs
        return found


def _satisfies(
    requests: request.DeviceRequests,
    devices: usable_devices.Devices,
    mask: int,
) -> bool:
    """Whether any ``count`` of some devices satisfy a required policy."""
    policy = requests.link_policy
    if policy is None or not policy.required:
        return True
    return satisfaction.does_any_set_meet(
        devices.topology, mask, requests.requests[0].count, policy.link
    )


def _keep_order(
    host: matcher.HostPools,
    requests: request.DeviceRequests,
    mappings: Sequence[request.ProviderMapping | None],
    accepted: Sequence[int],
) -> matcher.Match:
    """Keep Nova's order on a host with too many devices to compare.

    A required policy refuses candidates whose devices violate it, or cannot be
    known.
    """
    policy, lead = requests.link_policy, requests.requests[0]
    if policy is None or not policy.required:
        return matcher.Match(accepted)
    pool_by_rp_uuid = {pool.get("rp_uuid"): pool for pool in host.pools}

    def satisfies(mapping: request.ProviderMapping | None) -> bool:
        rp_uuids = set(lead.collect_rp_uuids(mapping))
        if len(rp_uuids) != lead.count or requests.first_fit:
            return False
        devices = usable_devices.find_usable(
            [pool_by_rp_uuid[rp_uuid] for rp_uuid in rp_uuids], lead
        )
        return _satisfies(requests, devices, devices.topology.everything)

    kept = [index for index in accepted if satisfies(mappings[index])]
    if kept:
        return matcher.Match(kept)
    return matcher.Match(
        (),
        refusal.Refusal(
            refusal.Cause.LINK,
            request=lead.name,
            asked=lead.count,
            candidates=len(accepted),
            detail=f"none of the {len(accepted)} allocation candidates has"
            f" gpu:link={policy.link.value}, and the host has more than"
            f" {usable_devices.MOST_COMPARED} devices, too many to compare",
        ),
    )
