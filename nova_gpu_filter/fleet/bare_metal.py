# SPDX-License-Identifier: Apache-2.0

"""Reads bare metal nodes with GPUs from Placement.

Nova's driver for Ironic makes a provider of each node, without any below it:
its name is the UUID of the node, its one inventory a resource class of the
node with a total of 1, its traits are those of the node
(``update_provider_tree`` in nova/virt/ironic/driver.py). What is in a node is
not counted there: its traits say that it has GPUs. A node is reserved while a
server has it, and until it was cleaned.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Final
from urllib import parse

from oslo_utils import uuidutils

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.nova_rules import our_traits

_GPU_TRAITS: Final = (our_traits.PREFIX, "HW_GPU_")
_OF_A_HOST: Final = frozenset({"VCPU", "PCPU", "MEMORY_MB"})
"""What Nova reports of a hypervisor, and not of a node."""


def read_nodes(
    get: api.Get, name: str | None = None
) -> tuple[model.Host, ...]:
    """Read the bare metal nodes with GPUs, each a host with one device.

    :param name: UUID of the one node to read; None for all.
    :returns: by name; empty where there are none.
    :raises FleetError: Placement does not answer.
    """
    path = "/resource_providers"
    if name is not None:
        path += f"?{parse.urlencode({'name': name})}"
    providers = {
        provider["uuid"]: provider
        for provider in get(path)["resource_providers"]
        if provider["uuid"] == provider["root_provider_uuid"]
        and uuidutils.is_uuid_like(provider["name"])
    }
    hosts = (
        _build_host(providers[uuid], summary)
        for uuid, summary in _read_summaries(get, providers).items()
        if _has_gpus(summary)
    )
    return tuple(sorted(hosts, key=lambda host: host.name))


def _read_summaries(
    get: api.Get, uuids: Iterable[str]
) -> Mapping[str, provider_trees.Summary]:
    """Read what nodes have: all free ones of a class by one request."""
    read = provider_trees.build_reader(get)
    found: dict[str, provider_trees.Summary] = {}
    asked: set[str] = set()
    missing = list(uuids)
    while missing:
        some = dict(api.ask_all(read, missing[: api.WORKERS]))
        found |= some
        classes = {name for one in some.values() for name in one.amounts}
        for name in sorted(classes - asked):
            asked.add(name)
            found |= provider_trees.read_candidates(get, name, set(missing))
        missing = [uuid for uuid in missing if uuid not in found]
    return found


def _has_gpus(summary: provider_trees.Summary) -> bool:
    return summary.amounts.keys().isdisjoint(_OF_A_HOST) and any(
        trait.startswith(_GPU_TRAITS) for trait in summary.traits
    )


def _build_host(
    provider: Mapping[str, Any], summary: provider_trees.Summary
) -> model.Host:
    # Ironic has no address for what is given away whole.
    devices = provider_trees.build_devices(provider, "", summary)
    return model.Host(
        provider["uuid"],
        provider["name"],
        summary.traits,
        summary.amounts,
        tuple(devices),
        is_bare_metal=True,
    ).with_service(None)
