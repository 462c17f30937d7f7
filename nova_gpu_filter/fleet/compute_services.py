# SPDX-License-Identifier: Apache-2.0

"""Reads from Nova which hosts take servers.

A nova-compute that is down, or forced down, leaves no trace in Placement; one
that is disabled leaves a trait, but only while it runs.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model

_NOT_IN_NOVA: Final = model.ComputeService(
    host="", zone="", obstacles=(model.Obstacle.UNKNOWN,)
)


def read(get: api.Get) -> tuple[model.ComputeService, ...]:
    """Read all nova-compute services: one request."""
    answer = get("/os-services?binary=nova-compute")
    return tuple(map(_build_service, answer["services"]))


def _build_service(data: Mapping[str, Any]) -> model.ComputeService:
    return model.ComputeService(
        host=data["host"],
        zone=data.get("zone", ""),
        obstacles=tuple(_find_obstacles(data)),
        disabled_reason=data.get("disabled_reason") or None,
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


def assign(
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
    by_label = _index_by_label(by_host.values(), lambda found: found.host)
    host_by_label = _index_by_label(hosts, lambda host: host.name)
    found: dict[str, model.ComputeService] = {}
    for host in hosts:
        if host.name in by_host:
            found[host.uuid] = by_host[host.name]
            continue
        label = cut_domain(host.name)
        near = by_label.get(label)
        if near is not None and host_by_label.get(label) is host:
            found[host.uuid] = near
    unmatched = [host.uuid for host in hosts if host.uuid not in found]
    for uuid, name in api.ask_all(_make_asker(get), unmatched):
        if name in by_host:
            found[uuid] = by_host[name]
    return tuple(
        host.with_service(found.get(host.uuid, _NOT_IN_NOVA)) for host in hosts
    )


def _make_asker(get: api.Get) -> Callable[[str], str | None]:
    def ask(uuid: str) -> str | None:
        try:
            found = get(f"/os-hypervisors/{uuid}")["hypervisor"]
        except errors.NotFound:
            return None
        name: str = found["service"]["host"]
        return name

    return ask


def cut_domain(name: str) -> str:
    """Return the first label of a name, in lower case: two services may know
    a host with and without its domain.
    """
    return name.partition(".")[0].lower()


def _index_by_label(items: Iterable[Any], name: Any) -> dict[str, Any]:
    """Index by the first label of names, without labels that are shared."""
    found: dict[str, Any] = {}
    shared = set()
    for item in items:
        label = cut_domain(name(item))
        if found.setdefault(label, item) is not item:
            shared.add(label)
    return {label: found[label] for label in found.keys() - shared}
