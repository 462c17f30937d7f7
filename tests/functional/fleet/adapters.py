# SPDX-License-Identifier: Apache-2.0

"""Services that answer as through a keystoneauth adapter."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools
import threading
from typing import Any
from urllib import parse

from tests.functional.placement import service


@dataclasses.dataclass(frozen=True)
class Response:
    """As far as we read one of requests."""

    status_code: int
    body: Any
    reason: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def json(self) -> Any:
        """Return the body as an object."""
        return self.body


class PlacementAdapter:
    """A real Placement; notes what it was asked."""

    def __init__(self, placement: service.Placement) -> None:
        self._placement = placement
        # SQLite in memory is one connection for all threads.
        self._one_at_a_time = threading.Lock()
        self.asked: list[str] = []
        self.token = "admin"  # noqa: S105
        self.is_old = False
        """Whether what it is asked for is newer than what it offers."""
        self.answer: Response | None = None
        """Stands for every answer of Placement, where it is not None."""

    def _ask(
        self,
        method: str,
        path: str,
        raise_exc: bool,
        headers: Mapping[str, str],
        microversion: str,
        json: Any = None,
    ) -> Response:
        assert raise_exc is False
        if self.answer is not None:
            return self.answer
        if self.is_old:
            microversion = "1.99"
        with self._one_at_a_time:
            self.asked.append(path)
            answer = self._placement.stock(
                path,
                method=method,
                body=json,
                microversion=microversion,
                headers={"X-Auth-Token": self.token},
            )
        return Response(answer.status, answer.json if answer.body else None)

    get = functools.partialmethod(_ask, "GET")
    put = functools.partialmethod(_ask, "PUT")
    post = functools.partialmethod(_ask, "POST")
    delete = functools.partialmethod(_ask, "DELETE")


class Nova:
    """Servers and flavors; Nova itself is asked by other tests."""

    def __init__(
        self,
        servers: Iterable[Mapping[str, Any]],
        flavors: Iterable[Mapping[str, Any]] = (),
        hypervisors: Iterable[str] = (),
    ) -> None:
        self.servers = list(servers)
        self.hypervisors = list(hypervisors)
        self.migrations: list[Mapping[str, Any]] = []
        self.flavors = list(flavors)
        self.services: list[dict[str, Any]] = []
        self.service_of: dict[str, str] = {}
        """Host of the nova-compute, by UUID of the hypervisor."""
        self.aggregates: list[Mapping[str, Any]] = []
        self.quota_set: Mapping[str, Any] = {}

    def add_services(self, hosts: Iterable[str]) -> "Nova":
        """Have a nova-compute on each host, enabled and up."""
        self.services += [
            {
                "host": host,
                "zone": "nova",
                "status": "enabled",
                "state": "up",
                "forced_down": False,
                "disabled_reason": None,
            }
            for host in hosts
        ]
        return self

    def get(self, path: str, **_kwargs: Any) -> Response:
        """Answer."""
        url = parse.urlsplit(path)
        query = dict(parse.parse_qsl(url.query))
        if url.path == "/os-hypervisors":
            found = [{"id": uuid} for uuid in self.hypervisors]
            return Response(200, {"hypervisors": found})
        if url.path.startswith("/os-hypervisors/"):
            host = self.service_of.get(url.path.rpartition("/")[2])
            if host is not None:
                found = {"service": {"host": host}}
                return Response(200, {"hypervisor": found})
        if url.path == "/os-migrations":
            wanted = query.get("instance_uuid")
            found = [
                migration
                for migration in self.migrations
                if wanted in (None, migration["instance_uuid"])
            ]
            return Response(200, {"migrations": found})
        if url.path == "/os-services":
            return Response(200, {"services": self.services})
        if url.path == "/os-aggregates":
            return Response(200, {"aggregates": self.aggregates})
        if url.path.startswith("/os-quota-sets/"):
            return Response(200, {"quota_set": self.quota_set})
        if url.path == "/flavors/detail":
            return Response(200, {"flavors": self.flavors})
        if url.path in ("/servers", "/servers/detail"):
            name = query.get("name", "").replace("\\", "")
            return Response(
                200,
                {"servers": [s for s in self.servers if name in s["name"]]},
            )
        for server in self.servers:
            if url.path == f"/servers/{server['id']}":
                return Response(200, {"server": server})
        return Response(404, {})


class Keystone:
    """Projects and limits, in the form of Keystone's API v3."""

    SERVICE = "nova-id"

    def __init__(
        self,
        projects: Mapping[str, str],
        defaults: Iterable[tuple[str, int, str | None]] = (),
        limits: Iterable[tuple[str, str, int, str | None]] = (),
    ) -> None:
        """Hold data.

        :param projects: UUID -> name.
        :param defaults: (resource, limit, region).
        :param limits: (project, resource, limit, region).
        """
        self._projects = [
            {"id": uuid, "name": name} for uuid, name in projects.items()
        ]
        self.defaults = [
            {
                "service_id": self.SERVICE,
                "resource_name": resource,
                "default_limit": limit,
                "region_id": region,
            }
            for resource, limit, region in defaults
        ]
        self.limits = [
            {
                "service_id": self.SERVICE,
                "project_id": project,
                "resource_name": resource,
                "resource_limit": limit,
                "region_id": region,
            }
            for project, resource, limit, region in limits
        ]

    def get(self, path: str, **_kwargs: Any) -> Response:
        """Answer."""
        url = parse.urlsplit(path)
        query = dict(parse.parse_qsl(url.query))
        if url.path.startswith("/projects/"):
            for project in self._projects:
                if url.path == f"/projects/{project['id']}":
                    return Response(200, {"project": project})
            return Response(404, {})
        answers: dict[str, Any] = {
            "/projects": {
                "projects": [
                    project
                    for project in self._projects
                    if query.get("name", project["name"]) == project["name"]
                ]
            },
            "/services": {"services": [{"id": self.SERVICE}]},
            "/registered_limits": {
                "registered_limits": self.defaults
                + [
                    # Another service may use the same names.
                    {**limit, "service_id": "other-id", "default_limit": 77}
                    for limit in self.defaults
                ]
            },
            "/limits": {"limits": self.limits},
        }
        return Response(200, answers[url.path])
