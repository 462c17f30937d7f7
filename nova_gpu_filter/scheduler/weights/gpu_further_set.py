# SPDX-License-Identifier: Apache-2.0

"""GPU further set weigher: every host once, before any a second time."""

from typing import Final

from nova.scheduler import weights
from oslo_config import cfg

from nova_gpu_filter.scheduler import views

CONF = cfg.CONF

_BEHIND: Final = 10000.0
"""More than usual multipliers add up to, and less than those of Nova's
weighers that avoid hosts which fail (1,000,000): a further set of another
host is better than they are."""
_BEHIND_ALL: Final = 1e9
"""More than these, too."""


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
        # A random one of the first hosts must not be a view of one of them
        # because some hosts fail.
        if CONF.filter_scheduler.host_subset_size > 1:
            return _BEHIND_ALL
        return _BEHIND

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Return -1 for further views, 0 for hosts.

        Where filters that come after ours have left fewer hosts than Nova
        draws from, views get the candidates of their host, so that the best
        set is claimed whichever is drawn.
        """
        states = [host.obj for host in weighed_obj_list]
        further = [state for state in states if views.is_view(state)]
        drawn = CONF.filter_scheduler.host_subset_size
        if drawn > len(states) - len(further):
            for view in further:
                host = views.get_host_state(view)
                view.allocation_candidates = host.allocation_candidates
        return [
            self._weigh_object(state, weight_properties) for state in states
        ]

    def _weigh_object(self, obj, weight_properties):
        return -1.0 if views.is_view(obj) else 0.0
