# SPDX-License-Identifier: Apache-2.0

"""GPU fragmentation weigher: keep hosts ready for large requests."""

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
    """

    multiplier_name = "gpu_fragmentation_weight_multiplier"

    def _judge(self, host_state, requests):
        """See :func:`merits.judge_cost`."""
        offered = offer.find(host_state, requests)
        if offered is None:
            return merits.Spared(0.0, 0.0, -_count_free_devices(host_state))
        topology = offered.devices.topology
        return merits.judge_cost(
            topology, topology.everything, offered.mask, requests.request_mix
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
