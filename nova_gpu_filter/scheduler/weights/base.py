# SPDX-License-Identifier: Apache-2.0

"""What our weighers have in common."""

import abc
from collections.abc import Sequence
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

    Only the order of hosts counts: the best weighs 1, the worst 0, and the
    steps between are equal, so that what a better host is worth beside Nova's
    weighers does not hang on how bad some other host is. Hosts weigh nothing
    for requests without devices.
    """

    # Normalized already.
    minval = 0.0
    maxval = 1.0

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
            if not device_requests.asks_for_devices(weight_properties):
                return [0.0] * len(weighed_obj_list)
            requests = device_requests.read_spec_obj(weight_properties)
            return _spread_evenly(
                [
                    # Views count as their host, or they would compete with it.
                    self._judge(views.get_host_state(host.obj), requests)
                    for host in weighed_obj_list
                ]
            )
        except Exception:
            LOG.exception(
                "%s failed, so that it prefers no host. Please report this.",
                type(self).__name__,
            )
            return [0.0] * len(weighed_obj_list)

    def _weigh_object(self, obj, weight_properties):
        """Return 0: Nova wants the method, but hosts are weighed together."""
        return 0.0

    @abc.abstractmethod
    def _judge(
        self, host_state, requests: request.DeviceRequests
    ) -> tuple[float, ...]:
        """Judge one host: the greater tuple is the better host."""


def _spread_evenly(judged: Sequence[tuple[float, ...]]) -> list[float]:
    """Spread hosts evenly from 0 to 1, equal ones on one place."""
    places = {key: place for place, key in enumerate(sorted(set(judged)))}
    highest = max(len(places) - 1, 1)
    return [places[key] / highest for key in judged]
