# SPDX-License-Identifier: Apache-2.0

"""GPU fragmentation weigher: keep hosts ready for large requests."""

from nova_gpu_filter.pools import spreading
from nova_gpu_filter.scheduler import host_pools
from nova_gpu_filter.scheduler.weights import base
from nova_gpu_filter.scheduler.weights import offer
from nova_gpu_filter.topology import merits


class GpuFragmentationWeigher(base._DeviceWeigher):
    """Prefers the host on which a request does the least damage.

    First counts the increase of fragmentation F by the devices that the first
    allocation candidate claims; then what they take from later requests for
    direct links, so that servers which can do without go where there are none.
    Among equals the host with the fewest free devices wins, so that empty
    hosts stay empty.

    For a flavor with ``gpu:spread`` that alone counts: whose candidate takes
    virtual functions of the most devices, and of those with the most free
    ones, or of the fewest and the fullest.
    """

    multiplier_name = "gpu_fragmentation_weight_multiplier"

    def _judge(self, host_state, requests):
        """See :func:`merits.judge_cost`, :func:`spreading.judge_host`."""
        if requests.spread is not None:
            return _judge_spread(host_state, requests)
        offered = offer.find(host_state, requests)
        if offered is None:
            return merits.Spared(0.0, 0.0, -_count_free_devices(host_state))
        topology = offered.devices.topology
        return merits.judge_cost(
            topology, topology.everything, offered.mask, requests.request_mix
        )


def _judge_spread(host_state, requests) -> tuple[float, ...]:
    if not host_pools.is_readable(host_state.pci_stats):
        return ()
    candidates = host_state.allocation_candidates
    return spreading.judge_host(
        host_state.pci_stats.pools,
        requests.requests[0],
        requests.spread,
        candidates[0]["mappings"] if candidates else None,
    )


def _count_free_devices(host_state) -> int:
    """Count free devices, but not those that are for networks."""
    if not host_pools.is_readable(host_state.pci_stats):
        return 0
    return sum(
        pool["count"]
        for pool in host_state.pci_stats.pools
        if "physical_network" not in pool
    )
