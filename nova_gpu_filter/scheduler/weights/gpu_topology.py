# SPDX-License-Identifier: Apache-2.0

"""GPU topology weigher: prefer hosts with well linked free devices."""

from nova_gpu_filter.scheduler.weights import base
from nova_gpu_filter.scheduler.weights import offer
from nova_gpu_filter.topology import merits


class GpuTopologyWeigher(base._DeviceWeigher):
    """Prefers the host that offers the set of devices that ``gpu:link`` asks.

    Of requests for direct links (``nvlink``, ``fabric``) the weakest link of
    the set counts first, then the mean of its links, as for the order of sets
    on one host. Other links only have to be there. Requests without
    ``gpu:link``, and those for one device, are not weighed.
    """

    multiplier_name = "gpu_topology_weight_multiplier"

    def _judge(self, host_state, requests):
        """See :func:`merits.judge_links`."""
        policy = requests.link_policy
        if policy is None or requests.requests[0].count < 2:
            return merits.UNLINKED
        offered = offer.find(host_state, requests)
        if offered is None:
            return merits.UNLINKED
        return merits.judge_links(
            offered.devices.topology, offered.mask, policy.link
        )
