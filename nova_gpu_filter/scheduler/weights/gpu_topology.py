# SPDX-License-Identifier: Apache-2.0

"""GPU topology weigher: prefer hosts with well linked free devices."""

import math

from nova_gpu_filter.scheduler.weights import base
from nova_gpu_filter.scheduler.weights import offer
from nova_gpu_filter.topology import links


class GpuTopologyWeigher(base._DeviceWeigher):
    """Prefers the host that offers the best linked set of devices.

    The weakest link of a set counts first, then the mean of its links, as for
    the order of sets on one host. Requests for one device, or none, are not
    weighed.
    """

    multiplier_name = "gpu_topology_weight_multiplier"

    def _weigh(self, host_state, requests):
        """Return the weakest link of the set, and the mean as a fraction.

        A set that is no whole fabric partition counts as unlinked where the
        host lists partitions of that size: no NVLink of it can be activated.
        """
        count = requests.requests[0].count if requests else 0
        offered = offer.of(host_state, requests) if count > 1 else None
        if offered is None:
            return 0.0
        topology, mask = offered.devices.topology, offered.mask
        whole = topology.whole_partitions(count, topology.everything)
        if topology.lists_partitions(count) and mask not in whole:
            return 0.0
        mean = topology.total(mask) / math.comb(count, 2)
        return topology.weakest(mask) + mean / (links.SELF + 1)
