# SPDX-License-Identifier: Apache-2.0

"""Reads projects and unified limits from Keystone."""

import collections
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any
from typing import Final
from urllib import parse

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import quota

_FEW: Final = 50
"""Up to so many projects are asked for one by one."""


def read_projects(get: api.Get) -> dict[str, str]:
    """Read the names of all projects, by UUID, page by page where Keystone
    gives pages."""
    projects: dict[str, str] = {}
    path: str | None = "/projects"
    while path is not None:
        body = get(path)
        projects.update((p["id"], p["name"]) for p in body["projects"])
        path = (body.get("links") or {}).get("next")
    return projects


def read_names(get: api.Get, uuids: Collection[str]) -> dict[str, str]:
    """Read what some projects are called, for people.

    Projects of several domains may share a name: see :func:`distinguish`. One
    that is gone, or that we may not see, keeps its UUID.

    :returns: UUID -> name.
    """
    if len(uuids) > _FEW:
        names = read_projects(get)
        found = {uuid: names.get(uuid, uuid) for uuid in uuids}
    else:

        def ask(uuid: str) -> str:
            try:
                path = f"/projects/{parse.quote(uuid, safe='')}"
                return str(get(path)["project"]["name"])
            except (errors.NotFound, errors.NotAllowed):
                return uuid

        found = dict(api.ask_all(ask, sorted(uuids)))
    return distinguish(found)


def distinguish(names: Mapping[str, str]) -> dict[str, str]:
    """Put the beginning of its UUID beside each name that several projects
    have."""
    number = collections.Counter(names.values())
    return {
        uuid: name if number[name] == 1 else f"{name} ({uuid[:8]})"
        for uuid, name in names.items()
    }


def find_project(get: api.Get, name: str) -> tuple[str, str]:
    """Find a project: (UUID, name).

    :param name: name or UUID.
    :raises Unknown: there is none.
    :raises Ambiguous: several domains have one of that name.
    """
    try:
        project = get(f"/projects/{parse.quote(name, safe='')}")["project"]
    except errors.NotFound:
        query = parse.urlencode({"name": name})
        found = get(f"/projects?{query}")["projects"]
        project = api.choose_one(
            "project", name, found, lambda: read_projects(get).values()
        )
    return project["id"], project["name"]


def read_limits(
    get: api.Get, region: str | None, service_ids: Collection[str]
) -> quota.Limits:
    """Read the unified limits of Nova.

    Members of a project see its own, and those that are registered.

    :param region: of the cloud; limits of other regions are left out. None
        where there is but one.
    :param service_ids: of Nova in Keystone, from the catalog; empty if these
        are not known: Keystone is asked then, if we may, and else the limits
        of all services count.
    """
    ids = set(service_ids)
    if not ids:
        try:
            services = get("/services?type=compute")["services"]
            ids = {found["id"] for found in services}
        except errors.NotAllowed:
            pass

    def choose_ours(limits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        mine = [
            limit
            for limit in limits
            if (not ids or limit["service_id"] in ids)
            and (region is None or limit["region_id"] in (None, region))
        ]
        # A limit of the region goes over one of all regions.
        return sorted(mine, key=lambda limit: limit["region_id"] is not None)

    registered = get("/registered_limits")["registered_limits"]
    own = get("/limits")["limits"]
    return quota.Limits(
        defaults={
            limit["resource_name"]: limit["default_limit"]
            for limit in choose_ours(registered)
        },
        by_project={
            (limit["project_id"], limit["resource_name"]): (
                limit["resource_limit"]
            )
            for limit in choose_ours(own)
            if limit.get("project_id")
        },
    )
