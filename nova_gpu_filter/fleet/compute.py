# SPDX-License-Identifier: Apache-2.0

"""Reads servers, flavors and images from Nova and Glance."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any
from typing import Final
from urllib import parse

from oslo_utils import uuidutils

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model

PAGE: Final = 1000
"""Servers in one answer: Nova's default of [api]max_limit."""
_FEW: Final = 50
"""Up to so many servers are asked for one by one."""
_EVERYBODY: Final = {"all_tenants": "true", "soft_deleted": "true"}
"""Asks for the servers of all projects. Those that are deleted keep their
devices for ``[DEFAULT]reclaim_instance_interval``, and a list leaves them out
unless it is asked (``instance_get_all_by_filters_sort`` in
nova/db/main/api.py)."""


def read_servers(
    get: api.Get, uuids: Collection[str]
) -> dict[str, model.Server]:
    """Read some servers, by UUID, without those that Nova does not know."""
    if len(uuids) <= _FEW:

        def ask(uuid: str) -> model.Server | None:
            try:
                return _build_server(get(f"/servers/{uuid}")["server"])
            except errors.NotFound:
                return None

        return {
            uuid: server
            for uuid, server in api.ask_all(ask, sorted(uuids))
            if server is not None
        }
    wanted = frozenset(uuids)
    return {
        server.uuid: server
        for server in read_all_servers(get)
        if server.uuid in wanted
    }


def read_all_servers(get: api.Get) -> Iterator[model.Server]:
    """Read the servers of all projects; none of cells that are down."""
    pages = _read_pages(get, "/servers/detail", "servers", _EVERYBODY)
    yield from map(_build_server, pages)


def find_server(get: api.Get, name: str) -> model.Server:
    """Read the server of a name or UUID.

    :raises Unknown: there is none.
    :raises Ambiguous: several have that name.
    """
    if uuidutils.is_uuid_like(name):
        try:
            return _build_server(get(f"/servers/{name}")["server"])
        except errors.NotFound:
            pass
    # Nova takes a regular expression, which may match other names as well.
    query = {**_EVERYBODY, "name": re.escape(name)}
    found = [
        server
        for server in _read_pages(get, "/servers/detail", "servers", query)
        if server["name"] == name
    ]

    def read_names() -> set[str]:
        # Of the newest, where there are many.
        asked = parse.urlencode({**_EVERYBODY, "limit": PAGE})
        servers = get(f"/servers?{asked}")["servers"]
        return {server["name"] for server in servers}

    server = api.choose_one("server", name, found, read_names)
    # Lists of older Nova have no faults.
    return _build_server(get(f"/servers/{server['id']}")["server"])


def read_flavors(get: api.Get) -> list[model.Flavor]:
    """Read all flavors, private ones too."""
    return [
        _build_flavor(flavor)
        for flavor in _read_pages(
            get, "/flavors/detail", "flavors", {"is_public": "none"}
        )
    ]


def find_flavor(get: api.Get, name: str) -> model.Flavor:
    """Read the flavor of a name or id.

    :raises Unknown: there is none.
    """
    return choose_flavor(read_flavors(get), name)


def choose_flavor(flavors: Sequence[model.Flavor], name: str) -> model.Flavor:
    """Choose the flavor of a name or id.

    :raises Unknown: there is none.
    """
    for flavor in flavors:
        if name in (flavor.uuid, flavor.name):
            return flavor
    raise errors.Unknown("flavor", name, [flavor.name for flavor in flavors])


def find_image(get: api.Get, name: str) -> Mapping[str, Any]:
    """Read the image of a name or id, as Glance's API v2 tells it.

    :raises Unknown: there is none.
    :raises Ambiguous: several have that name.
    """
    try:
        image: Mapping[str, Any] = get(f"/images/{parse.quote(name, safe='')}")
    except errors.NotFound:
        query = parse.urlencode({"name": name})
        image = api.choose_one(
            "image",
            name,
            get(f"/images?{query}")["images"],
            lambda: [one["name"] or "" for one in get("/images")["images"]],
        )
    return image


def read_quota(get: api.Get, project: str) -> dict[str, tuple[int, int]]:
    """Read what Nova itself limits for a project: resource -> (limit, used);
    nothing, for a user who may not see it."""
    try:
        path = f"/os-quota-sets/{parse.quote(project, safe='')}/detail"
        found = get(path)["quota_set"]
    except (errors.NotAllowed, errors.NotFound):
        return {}
    return {
        name: (value["limit"], value["in_use"] + value["reserved"])
        for name, value in found.items()
        if isinstance(value, dict)
    }


def read_newest_microversion(get: api.Get) -> tuple[int, int] | None:
    """Read up to which microversion Nova's API goes: (2, 104); None where it
    does not say."""
    try:
        text = get("/")["version"]["version"]
        major, minor = str(text).split(".")
        return int(major), int(minor)
    except (errors.FleetError, KeyError, TypeError, ValueError):
        return None


def check_zone(get: api.Get, name: str) -> None:
    """Refuse an availability zone that is not there.

    :raises Unknown: the message lists those that there are.
    """
    zones = get("/os-availability-zone")["availabilityZoneInfo"]
    names = [zone["zoneName"] for zone in zones]
    if name not in names:
        raise errors.Unknown("availability zone", name, names)


def read_hypervisors(get: api.Get) -> set[str]:
    """Read the UUIDs of the compute nodes: those of their root providers."""
    return {
        h["id"] for h in _read_pages(get, "/os-hypervisors", "hypervisors", {})
    }


def read_migrations(
    get: api.Get, server: str | None = None
) -> Iterator[model.Migration]:
    """Read migrations, of all servers or of one by its UUID, newest first."""
    query = {} if server is None else {"instance_uuid": server}
    for data in _read_pages(get, "/os-migrations", "migrations", query):
        yield model.Migration(
            uuid=data["uuid"],
            server=data["instance_uuid"],
            kind=data["migration_type"],
            status=data["status"],
            source=data["source_node"],
        )


def _read_pages(
    get: api.Get, path: str, key: str, query: Mapping[str, str]
) -> Iterator[Mapping[str, Any]]:
    """Read a list page by page.

    Nova says with a link whether there is more; [api]max_limit may be less
    than what is asked for.
    """
    marker: dict[str, str] = {}
    while True:
        asked = parse.urlencode({**query, "limit": PAGE, **marker})
        answer = get(f"{path}?{asked}")
        yield from answer[key]
        links = {link["rel"] for link in answer.get(f"{key}_links", ())}
        if "next" not in links or not answer[key]:
            return
        last = answer[key][-1]
        # Of a migration the id is a number, and no marker.
        marker = {"marker": last.get("uuid", last["id"])}


def _build_server(data: Mapping[str, Any]) -> model.Server:
    if data["status"] == model.CELL_IS_DOWN:
        return model.Server(
            uuid=data["id"],
            name=data["id"],
            project=data["tenant_id"],
            status=data["status"],
            host=None,
            flavor=model.Flavor("", 0, 0, 0, {}),
        )
    flavor = data["flavor"]
    # A server without image was made from a volume, which is no local disk.
    root_gb = flavor["disk"] if data.get("image", True) else 0
    return model.Server(
        uuid=data["id"],
        name=data["name"],
        project=data["tenant_id"],
        status=data["status"],
        host=data.get("OS-EXT-SRV-ATTR:hypervisor_hostname"),
        flavor=model.Flavor(
            name=flavor["original_name"],
            vcpus=flavor["vcpus"],
            ram_mb=flavor["ram"],
            disk_gb=_sum_disk_gb(root_gb, flavor["ephemeral"], flavor["swap"]),
            extra_specs=flavor.get("extra_specs", {}),
        ),
        fault=(data.get("fault") or {}).get("message"),
        zone=data.get("OS-EXT-AZ:availability_zone") or None,
        image_properties=(data.get("image") or {}).get("properties", {}),
    )


def _build_flavor(data: Mapping[str, Any]) -> model.Flavor:
    return model.Flavor(
        uuid=data["id"],
        name=data["name"],
        vcpus=data["vcpus"],
        ram_mb=data["ram"],
        disk_gb=_sum_disk_gb(
            data["disk"],
            data["OS-FLV-EXT-DATA:ephemeral"],
            # An empty string for none, before microversion 2.75.
            int(data["swap"] or 0),
        ),
        extra_specs=data.get("extra_specs", {}),
    )


def _sum_disk_gb(root_gb: int, ephemeral_gb: int, swap_mb: int) -> int:
    """Add up disks as ``_convert_to_gb`` in nova/scheduler/utils.py does."""
    return root_gb + ephemeral_gb + -(-swap_mb // 1024)
