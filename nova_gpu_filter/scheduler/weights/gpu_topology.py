# SPDX-License-Identifier: Apache-2.0

"""GPU topology weigher: prefer hosts with well linked free devices."""

import math

from nova_gpu_filter.scheduler.weights import base
from nova_gpu_filter.scheduler.weights import offer
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Requirement


class GpuTopologyWeigher(base._DeviceWeigher):
    """Prefers the host that offers the set of devices that ``gpu:link`` asks.

    Of requests for direct links (``nvlink``, ``fabric``) the weakest link of
    the set counts first, then the mean of its links, as for the order of sets
    on one host. Other links only have to be there: a better one would be
    missing elsewhere. Requests without ``gpu:link``, and those for one device,
    are not weighed.
    """

    multiplier_name = "gpu_topology_weight_multiplier"

    def _judge(self, host_state, requests):
        """Return the weakest link of the set, and the mean of its links.

        A set that is no whole fabric partition counts as unlinked where the
        host lists partitions of that size: no NVLink of it can be activated.
        """
        count = requests.requests[0].count
        policy = requests.link_policy
        offered = (
            offer.find(host_state, requests) if policy and count > 1 else None
        )
        if offered is None:
            return links.SYS, 0.0
        topology, mask = offered.devices.topology, offered.mask
        weakest = topology.weakest(mask)
        if policy.link not in (Requirement.FABRIC, Requirement.NVLINK):
            return min(weakest, policy.link.floor), 0.0
        whole = topology.whole_partitions(count, topology.everything)
        if topology.lists_partitions(count) and mask not in whole:
            return links.SYS, 0.0
        return weakest, topology.total(mask) / math.comb(count, 2)
