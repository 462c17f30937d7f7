# SPDX-License-Identifier: Apache-2.0

"""Reads the hosts of a cloud: devices from Placement, services from Nova.

A nova-compute that is down, or forced down, leaves no trace in Placement; one
that is disabled leaves a trait, but only while it runs.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import logging
from typing import Any
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import reserving

LOG = logging.getLogger(__name__)

_NOT_IN_NOVA: Final = model.ComputeService(
    host="", zone="", obstacles=(model.Obstacle.UNKNOWN,)
)


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
        services = together.ask(lambda: read_services(ask_compute))
        hosts = reserving.assign(
            ask_placement, _read_trees(ask_placement, name, with_bare_metal)
        )
        try:
            return assign_services(ask_compute, hosts, services())
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
    nodes = (
        provider_trees.read_bare_metal(ask, name) if with_bare_metal else ()
    )
    try:
        return (*provider_trees.read_hosts(ask, name, True), *nodes)
    except (errors.NoDevices, errors.Unknown):
        if not nodes:
            raise
        return nodes


def read_services(get: api.Get) -> tuple[model.ComputeService, ...]:
    """Read all nova-compute services: one request."""
    answer = get("/os-services?binary=nova-compute")
    return tuple(
        model.ComputeService(
            host=found["host"],
            zone=found.get("zone", ""),
            obstacles=tuple(_find_obstacles(found)),
            disabled_reason=found.get("disabled_reason") or None,
        )
        for found in answer["services"]
    )


def _find_obstacles(data: Mapping[str, Any]) -> Iterator[model.Obstacle]:
    if data["status"] == model.CELL_IS_DOWN:
        # Nothing else is told of it.
        yield model.Obstacle.CELL_DOWN
        return
    if data["status"] != "enabled":
        yield model.Obstacle.DISABLED
    if data.get("forced_down"):
        yield model.Obstacle.FORCED_DOWN
    elif data["state"] != "up":
        yield model.Obstacle.DOWN


def assign_services(
    get: api.Get,
    hosts: Sequence[model.Host],
    services: Iterable[model.ComputeService],
) -> tuple[model.Host, ...]:
    """Give each host its nova-compute.

    Nova names a service by ``[DEFAULT]host`` and a compute node by what the
    hypervisor calls itself: as a rule the same, or the same with a domain.
    Where neither decides, the compute node is read.
    """
    by_host = {found.host: found for found in services}
    of_services = collections.Counter(map(cut_domain, by_host))
    of_hosts = collections.Counter(cut_domain(host.name) for host in hosts)
    near = {cut_domain(name): found for name, found in by_host.items()}
    found: dict[str, model.ComputeService] = {}
    for host in hosts:
        label = cut_domain(host.name)
        if host.name in by_host:
            found[host.uuid] = by_host[host.name]
        elif of_services[label] == of_hosts[label] == 1:
            found[host.uuid] = near[label]

    def ask(uuid: str) -> str | None:
        try:
            node = get(f"/os-hypervisors/{uuid}")["hypervisor"]
        except errors.NotFound:
            return None
        return str(node["service"]["host"])

    unmatched = [host.uuid for host in hosts if host.uuid not in found]
    for uuid, name in api.ask_all(ask, unmatched):
        if name in by_host:
            found[uuid] = by_host[name]
    return tuple(
        host.with_service(found.get(host.uuid, _NOT_IN_NOVA)) for host in hosts
    )


def cut_domain(name: str) -> str:
    """Return the first label of a name, in lower case: two services may know
    a host with and without its domain.
    """
    return name.partition(".")[0].lower()
