# SPDX-License-Identifier: Apache-2.0

"""GPU fragmentation weigher: keep hosts ready for large requests."""

from nova_gpu_filter.scheduler import host_pools
from nova_gpu_filter.scheduler.weights import base
from nova_gpu_filter.scheduler.weights import offer
from nova_gpu_filter.topology import fragmentation

# Less than any difference of fragmentation that matters, for hosts with up to
# hundreds of devices: only tells hosts apart that are equal otherwise.
_FEWEST_FREE_FIRST = 1e-6


class GpuFragmentationWeigher(base._DeviceWeigher):
    """Prefers the host on which a request does the least damage.

    The damage is the increase of fragmentation F by the devices that the first
    allocation candidate claims, in GPUs; among equals the host with the fewest
    free devices wins, so that empty hosts stay empty. A request without
    devices is kept off hosts that have many.
    """

    multiplier_name = "gpu_fragmentation_weight_multiplier"

    def _weigh(self, host_state, requests):
        """Return minus the increase of F, less a little a free device."""
        if requests is None:
            return -_free_devices(host_state)
        offered = offer.of(host_state, requests)
        if offered is None:
            return -_FEWEST_FREE_FIRST * _free_devices(host_state)
        topology = offered.devices.topology
        f_of = fragmentation.of(topology, requests.request_mix).fragmentation
        free = topology.everything
        increase = f_of(free & ~offered.mask) - f_of(free)
        return -increase - _FEWEST_FREE_FIRST * topology.n


def _free_devices(host_state) -> int:
    """Count free devices, but not those that are for networks."""
    if not host_pools.is_readable(host_state.pci_stats):
        return 0
    return sum(
        pool["count"]
        for pool in host_state.pci_stats.pools
        if "physical_network" not in pool
    )
