# SPDX-License-Identifier: Apache-2.0

"""What our weighers have in common."""

import abc
from typing import ClassVar

from nova.scheduler import utils
from nova.scheduler import weights
from oslo_config import cfg
from oslo_log import log as logging

from nova_gpu_filter import conf
from nova_gpu_filter.pools import request
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import views

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


class _DeviceWeigher(weights.BaseHostWeigher):
    """Weighs hosts by the devices that they offer; higher weights win.

    The multiplier is one of our options.
    """

    multiplier_name: ClassVar[str]
    """Option in ``[filter_scheduler]``, and key of aggregate metadata."""

    def __init__(self) -> None:
        super().__init__()
        conf.register_opts(CONF)

    def weight_multiplier(self, host_state):
        """Override the weight multiplier."""
        return utils.get_weight_multiplier(
            host_state,
            self.multiplier_name,
            CONF.filter_scheduler[self.multiplier_name],
        )

    def weigh_objects(self, weighed_obj_list, weight_properties):
        """Weigh all hosts of one request, whose requests are read once.

        What cannot be weighed is logged, and all hosts are alike then: an
        exception would fail the request.
        """
        try:
            requests = _requests(weight_properties)
            return [
                # Views count as their host, or they would compete with it.
                self._weigh(views.host_of(host.obj), requests)
                for host in weighed_obj_list
            ]
        except Exception:
            LOG.exception(
                "%s failed, so that it prefers no host. Please report this.",
                type(self).__name__,
            )
            return [0.0] * len(weighed_obj_list)

    def _weigh_object(self, obj, weight_properties):
        return self._weigh(obj, _requests(weight_properties))

    @abc.abstractmethod
    def _weigh(
        self, host_state, requests: request.DeviceRequests | None
    ) -> float:
        """Weigh one host; ``requests`` is None if no device is asked for."""


def _requests(spec_obj) -> request.DeviceRequests | None:
    if not device_requests.asks_for_devices(spec_obj):
        return None
    return device_requests.from_spec_obj(spec_obj)
