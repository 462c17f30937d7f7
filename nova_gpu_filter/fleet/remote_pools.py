# SPDX-License-Identifier: Apache-2.0

"""Pools of remote GPUs: sharing providers of Placement.

A guest that computes on a GPU in the network (API remoting) has no device;
what is counted is the right to use one of a pool. In Placement a provider with
the trait MISC_SHARES_VIA_AGGREGATE offers its inventory to every tree of which
a provider is in one of its aggregates (placement/objects/research_context.py),
so that ``resources:CUSTOM_REMOTE_GPU=1`` in a flavor is answered by a compute
node and the pool together, and Nova claims both. Nova itself makes no such
provider and changes none.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
from typing import Any
from typing import Final
from urllib import parse
import uuid

import os_traits

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import reserving

TRAIT: Final = "CUSTOM_REMOTE_GPU_POOL"
"""Tells our pools from other sharing providers, such as shared disks."""
RESOURCE_CLASS: Final = "CUSTOM_REMOTE_GPU"
# Arbitrary, and the same in every cloud, so that each name has one UUID.
_NAMESPACE: Final = uuid.UUID("7f5d6c9a-8f0e-5d7b-9f2e-6a1c0f3b6e10")


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """A pool, who may use it, and who does."""

    uuid: str
    """Of its provider, and of the aggregate that its hosts are in."""
    name: str
    resource_class: str
    total: int
    used: int
    hosts: tuple[str, ...]
    """Names of the compute nodes whose servers may use it."""
    servers: tuple[tuple[str, int], ...]
    """(UUID of the server, GPUs that it has)."""


def create(
    services: Any, name: str, total: int, resource_class: str = RESOURCE_CLASS
) -> None:
    """Make a pool, or give one another size; what was begun is completed.

    :param services: a :class:`connection.Services`.
    :param total: GPUs of the pool.
    :raises FleetError: it was not done, or not wholly: do it again.
    """
    get, put = services.placement, services.write_placement
    pool = str(uuid.uuid5(_NAMESPACE, name))
    path = f"/resource_providers/{pool}"
    put(f"/resource_classes/{resource_class}", None)
    put(f"/traits/{TRAIT}", None)
    try:
        provider = get(path)
    except errors.NotFound:
        services.create_in_placement(
            "/resource_providers", {"name": name, "uuid": pool}
        )
        provider = get(path)
    # Its hosts find it by the aggregate, and it shares by the trait: both are
    # there before there is anything to share.
    generation = provider["generation"]
    inventory = {"total": total, "max_unit": total}
    for field, value in (
        ("aggregates", [pool]),
        ("traits", [os_traits.MISC_SHARES_VIA_AGGREGATE, TRAIT]),
        ("inventories", {resource_class: inventory}),
    ):
        answer = put(
            f"{path}/{field}",
            {field: value, "resource_provider_generation": generation},
        )
        generation = answer["resource_provider_generation"]


def set_hosts(
    services: Any, name: str, hosts: Iterable[str], are_in: bool
) -> None:
    """Let the servers of hosts use a pool, or not; who does goes on.

    :param hosts: names of compute nodes; all are looked for first.
    :raises Unknown: there is no such pool, or compute node.
    :raises FleetError: it was not done, or not wholly: do it again.
    """
    get, put = services.placement, services.write_placement
    pool = _find_provider(get, name)["uuid"]
    for root in [_find_root(get, host) for host in hosts]:
        reserving.change_aggregates(
            get,
            put,
            root,
            add=[pool] if are_in else [],
            remove=[] if are_in else [pool],
        )


def read(get: api.Get, name: str) -> Pool:
    """Read a pool.

    :raises Unknown: there is no such pool.
    :raises FleetError: Placement does not answer.
    """
    provider = _find_provider(get, name)
    pool = provider["uuid"]
    path = f"/resource_providers/{pool}"
    inventories = get(f"{path}/inventories")["inventories"]
    resource_class = min(inventories, default=RESOURCE_CLASS)
    total = inventories.get(resource_class, {"total": 0})["total"]
    used = get(f"{path}/usages")["usages"].get(resource_class, 0)
    hosts = sorted(one["name"] for one in _list_members(get, pool))
    servers = sorted(
        (server, one["resources"].get(resource_class, 0))
        for server, one in get(f"{path}/allocations")["allocations"].items()
    )
    return Pool(
        pool, name, resource_class, total, used, tuple(hosts), tuple(servers)
    )


def delete(services: Any, name: str) -> None:
    """Delete a pool that no server uses.

    :raises PoolInUse: servers use it; nothing was changed.
    :raises Unknown: there is no such pool.
    :raises FleetError: it was not done, or not wholly: do it again.
    """
    get = services.placement
    found = read(get, name)
    if found.servers:
        raise errors.PoolInUse(
            name=name, servers=", ".join(uuid for uuid, _ in found.servers)
        )
    # First what refuses when a server was faster.
    services.delete_in_placement(f"/resource_providers/{found.uuid}", None)
    for member in _list_members(get, found.uuid):
        reserving.change_aggregates(
            get, services.write_placement, member["uuid"], remove=[found.uuid]
        )


def _find_provider(get: api.Get, name: str) -> Any:
    pools = []
    # Placement refuses to look for a trait that it does not have.
    if get(f"/traits?name=in:{TRAIT}")["traits"]:
        found = get(f"/resource_providers?required={TRAIT}")
        pools = found["resource_providers"]
    for one in pools:
        if name == one["name"]:
            return one
    raise errors.Unknown(
        "pool of remote GPUs", name, [one["name"] for one in pools]
    )


def _list_members(get: api.Get, pool: str) -> list[Any]:
    """List the providers of the hosts of a pool."""
    found = get(f"/resource_providers?member_of={pool}")
    return [one for one in found["resource_providers"] if one["uuid"] != pool]


def _find_root(get: api.Get, host: str) -> str:
    query = parse.urlencode({"name": host})
    for one in _list_nodes(get, f"?{query}"):
        found: str = one["uuid"]
        return found
    roots = [one["name"] for one in _list_nodes(get)]
    raise errors.Unknown("compute node in Placement", host, roots)


def _list_nodes(get: api.Get, query: str = "") -> Iterator[Any]:
    """Yield the roots of trees that share nothing.

    A pool in the aggregate of another would share with the hosts of both, and
    one that leaves its own shares with none.
    """
    path = (
        f"/resource_providers?required={os_traits.MISC_SHARES_VIA_AGGREGATE}"
    )
    sharing = {one["uuid"] for one in get(path)["resource_providers"]}
    for one in get(f"/resource_providers{query}")["resource_providers"]:
        is_root = one["uuid"] == one["root_provider_uuid"]
        if is_root and one["uuid"] not in sharing:
            yield one
