# SPDX-License-Identifier: Apache-2.0

"""The matcher ``topology``: what nova accepts, the best device set first."""

from collections.abc import Sequence
import itertools

from nova_gpu_filter.pools import devices as pool_devices
from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools.matchers import nova
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology.links import Requirement


class TopologyPoolMatcher(nova.NovaPoolMatcher):
    """Accepts what the matcher ``nova`` accepts, and orders it by links.

    Candidates whose devices violate a required ``gpu:link`` are refused. The
    others come best first: see :mod:`nova_gpu_filter.topology.choice` for the
    order of device sets. Nothing else is refused, so that a request for
    several instances, and NUMATopologyFilter, which runs later, find the
    candidate that they need.

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
        if not match.accepted or lead.alias_name is None:
            return match
        ordered = _Order(host, requests).of(mappings, match.accepted)
        if ordered:
            return matcher.Match(ordered)
        return matcher.Match(
            (), _link_refusal(host, requests, len(match.accepted))
        )


class _Order:
    """The order of the candidates of one host for one request."""

    def __init__(
        self, host: matcher.HostPools, requests: request.DeviceRequests
    ) -> None:
        self._host = host
        self._requests = requests
        self._lead = requests.requests[0]
        self._devices = pool_devices.usable(host.pools, self._lead)

    def of(
        self,
        mappings: Sequence[request.ProviderMapping | None],
        accepted: Sequence[int],
    ) -> list[int]:
        """Sort candidates, and drop those that a required policy refuses.

        :param accepted: indexes into ``mappings``.
        """
        providers = {
            index: self._lead.rp_uuids_in(mappings[index])
            for index in accepted
        }
        sets = {
            index: mask
            for index, rp_uuids in providers.items()
            if len(rp_uuids) == self._lead.count
            and (mask := self._devices.mask(rp_uuids)) is not None
        }
        # Several VFs of one device, or any devices that nova-compute may like:
        # nothing to choose between.
        unordered = [index for index in accepted if index not in sets]
        if unordered and not self._always_satisfied():
            unordered = []
        ordered = self._best_first(sets)
        if len(self._requests.requests) > 1:
            ordered = self._companions_first(ordered, sets, mappings)
        return ordered + unordered

    def _best_first(self, sets: dict[int, int]) -> list[int]:
        """Sort by the rank of their sets, those taken by others last."""
        taken = 0
        for rp_uuid in self._host.taken:
            bit = self._devices.bit_by_rp_uuid.get(rp_uuid)
            if bit is not None:
                taken |= 1 << bit
        untaken = [index for index, mask in sets.items() if not mask & taken]
        rest = [index for index, mask in sets.items() if mask & taken]
        return self._ranked(untaken, sets, taken) + self._ranked(rest, sets, 0)

    def _ranked(
        self, indexes: list[int], sets: dict[int, int], taken: int
    ) -> list[int]:
        if not indexes:
            return []
        topology = self._devices.topology
        ranking = choice.rank(
            topology,
            topology.everything & ~taken,
            self._lead.count,
            self._requests.link_policy,
            self._requests.request_mix,
        )
        order = ranking.order(
            [sets[index] for index in indexes], self._requests.seed
        )
        return [indexes[place] for place in order]

    def _always_satisfied(self) -> bool:
        """Whether whatever is taken of the devices satisfies the policy."""
        policy = self._requests.link_policy
        if policy is None or not policy.required:
            return True
        topology = self._devices.topology
        everything = topology.everything
        if policy.link is Requirement.FABRIC:
            return everything in topology.whole_partitions(
                self._lead.count, everything
            )
        return topology.weakest(everything) >= policy.link.floor

    def _companions_first(
        self,
        ordered: list[int],
        sets: dict[int, int],
        mappings: Sequence[request.ProviderMapping | None],
    ) -> list[int]:
        """Sort candidates with the same GPUs by how near their NICs are."""
        others = [
            asked
            for asked in self._requests.requests[1:]
            if asked.alias_name is not None
        ]
        if not others:
            return ordered
        both = pool_devices.usable(self._host.pools, self._lead, *others)
        cross = both.topology.links

        def distance(index: int) -> tuple[int, ...]:
            gpus = both.mask(self._lead.rp_uuids_in(mappings[index]))
            near = [0] * len(companions.FLOORS)
            for asked in others:
                nics = both.mask(asked.rp_uuids_in(mappings[index]))
                if gpus and nics:
                    pairs = companions.score(cross, gpus, nics)
                    near = [a + b for a, b in zip(near, pairs, strict=True)]
            return tuple(-pairs for pairs in near)

        found = []
        for _, same in itertools.groupby(ordered, key=sets.__getitem__):
            found += sorted(same, key=distance)
        return found


def _link_refusal(
    host: matcher.HostPools, requests: request.DeviceRequests, candidates: int
) -> refusal.Refusal:
    """Say which links are missing, and what could be had instead."""
    lead = requests.requests[0]
    policy = requests.link_policy
    assert policy is not None, "only a required policy refuses"
    devices = pool_devices.usable(host.pools, lead)
    topology, everything = devices.topology, devices.topology.everything
    return refusal.Refusal(
        refusal.Cause.LINK,
        request=lead.name,
        asked=lead.count,
        specs=lead.specs,
        free=len(devices.names),
        candidates=candidates,
        links=refusal.LinkShortage(
            asked=policy.link.value,
            largest=devices.named(
                advice.largest_set(topology, everything, policy.link)
            ),
            would_fit=tuple(
                requirement.value
                for requirement in advice.requirements_that_fit(
                    topology, everything, lead.count
                )
            ),
        ),
    )
