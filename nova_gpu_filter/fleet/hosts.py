# SPDX-License-Identifier: Apache-2.0

"""Reads the hosts of a cloud: devices from Placement, services from Nova."""

import logging

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import compute_services
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import reserving

LOG = logging.getLogger(__name__)


def read(
    ask_placement: api.Get,
    ask_compute: api.Get,
    name: str | None = None,
) -> tuple[model.Host, ...]:
    """Read all hosts with devices, and whether they take servers.

    Both services are asked at the same time. Who may not see the services of
    Nova gets the hosts all the same, and a warning.

    :param name: of the one host to read; None for all.
    :raises NoDevices: no host has any.
    :raises Unknown: there is no such host, or it has no devices.
    :raises FleetError: a service does not answer.
    """
    with api.Together() as together:
        services = together.ask(lambda: compute_services.read(ask_compute))
        hosts = reserving.assign(
            ask_placement,
            provider_trees.read_hosts(ask_placement, name, True),
        )
        try:
            return compute_services.assign(ask_compute, hosts, services())
        except errors.NotAllowed as exc:
            LOG.warning(
                "Whether hosts are up is not known, and all count as if they"
                " were: %s",
                exc,
            )
            return hosts
