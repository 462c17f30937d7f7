# SPDX-License-Identifier: Apache-2.0

"""Reads the hosts of a cloud: devices from Placement, services from Nova."""

import functools
import logging

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import bare_metal
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
    with_bare_metal: bool = False,
) -> tuple[model.Host, ...]:
    """Read all hosts with devices, and whether they take servers.

    Both services are asked at the same time. Who may not see the services of
    Nova gets the hosts all the same, and a warning.

    :param name: of the one host to read; None for all.
    :param with_bare_metal: also read the nodes of Ironic with GPUs.
    :raises NoDevices: no host has any.
    :raises Unknown: there is no such host, or it has no devices.
    :raises FleetError: a service does not answer.
    """
    with api.Together() as together:
        services = together.ask(lambda: compute_services.read(ask_compute))
        hosts = reserving.assign(
            ask_placement,
            _read_trees(ask_placement, name, with_bare_metal),
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


def _read_trees(
    ask_placement: api.Get, name: str | None, with_bare_metal: bool
) -> tuple[model.Host, ...]:
    # Both ask which providers there are.
    ask = functools.cache(ask_placement)
    nodes = bare_metal.read_nodes(ask, name) if with_bare_metal else ()
    try:
        return (
            *provider_trees.read_hosts(ask, name, True),
            *nodes,
        )
    except (errors.NoDevices, errors.Unknown):
        if not nodes:
            raise
        return nodes
