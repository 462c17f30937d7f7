# SPDX-License-Identifier: Apache-2.0

"""GPU further set weigher: every host once, before any a second time."""

from typing import Final

from nova.scheduler import weights

from nova_gpu_filter.scheduler import views

_BEHIND: Final = 10000.0
"""More than usual multipliers add up to, and less than those of Nova's
weighers that avoid hosts which fail (1,000,000)."""


class GpuFurtherSetWeigher(weights.BaseHostWeigher):
    """Puts the further views of hosts behind all hosts.

    GpuPciPassthroughFilter lists a host again for each further device set that
    can be claimed when others are lost. With this weigher, hosts are compared,
    shuffled and chosen as if it did not.
    """

    # Not normalized: the weight of a host itself must not change.
    minval = 0.0
    maxval = 1.0

    def weight_multiplier(self, host_state):
        """Return what is the same for all: this is no preference."""
        return _BEHIND

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Return -1 for further views, 0 for hosts."""
        return [
            self._weigh_object(host.obj, weight_properties)
            for host in weighed_obj_list
        ]

    def _weigh_object(self, obj, weight_properties):
        return -1.0 if views.is_view(obj) else 0.0
