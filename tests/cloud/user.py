# SPDX-License-Identifier: Apache-2.0

"""What a user of the cloud does: the openstack command, and the SDK."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures
import json
import os
import shlex
import subprocess
from typing import Any

from openstack import exceptions

from cloud import bootstrap
from cloud import control
from cloud import files
from cloud import services
from tests import warm_python
from tests.cloud import waiting

SETTLED = ("ACTIVE", "ERROR")


class User:
    """Somebody with the openrc of the administrator."""

    def __init__(self, cloud: control.Cloud, project: str = "admin") -> None:
        """Log in.

        :param project: in which servers are asked for; of commands it is
            always that of the openrc.
        """
        self._cloud = cloud
        self._connection = bootstrap.connect(cloud.state, project)
        self._connection.authorize()
        self.compute = self._connection.compute
        self.placement = self._connection.placement
        self._flavors = {
            flavor.name: flavor.id for flavor in self.compute.flavors()
        }
        self._images = {
            image.name: image.id for image in self._connection.image.images()
        }

    def openstack(self, *arguments: str) -> Any:
        """Run an ``openstack`` command and return what it prints.

        :returns: the JSON, for a command that gives some.
        :raises AssertionError: it failed.
        """
        done = self.try_openstack(*arguments)
        assert done.returncode == 0, (
            f"openstack {' '.join(arguments)}: {done.stderr}"
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    def try_openstack(
        self, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run an ``openstack`` command that may fail."""
        python = warm_python.command(*warm_python.OPENSTACK)
        return subprocess.run(
            [
                *shlex.split(python),
                *("-W", "ignore", str(services.BIN / "openstack")),
                *arguments,
            ],
            env={**os.environ, **files.environment(self._cloud.state)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def flavor(self, name: str, extra_specs: Mapping[str, str]) -> str:
        """Make a flavor of the tests, unless it is there; return its name."""
        if name not in self._flavors:
            made = self.compute.create_flavor(
                name=name, ram=512, vcpus=1, disk=1
            )
            self.compute.create_flavor_extra_specs(made, dict(extra_specs))
            self._flavors[name] = made.id
        return name

    def ask(
        self,
        name: str,
        flavor: str,
        host: str | None = None,
        image: str = bootstrap.IMAGE,
    ) -> str | None:
        """Ask for a server.

        :returns: its UUID; None if the API could not take the request.
        """
        body = {
            "name": name,
            "flavorRef": self._flavors[flavor],
            "imageRef": self._images[image],
            "networks": "none",
        }
        if host is not None:
            body["host"] = host
        try:
            reply = self.compute.post("/servers", json={"server": body})
            exceptions.raise_from_response(reply)
        except exceptions.SDKException:
            return None
        return reply.json()["server"]["id"]

    def boot(self, name: str, flavor: str, host: str | None = None) -> dict:
        """Ask for a server and wait until it runs, or cannot."""
        uuid = self.ask(name, flavor, host)
        assert uuid is not None, f"the API did not take {name}"
        return self.settle([uuid])[0]

    def boot_at_once(
        self,
        flavors: Collection[str],
        meanwhile: Callable[[], None] | None = None,
    ) -> list[str | None]:
        """Ask for many servers at one time.

        :param meanwhile: is called while they are being built.
        :returns: UUIDs; None for requests that the API could not take.
        """
        with futures.ThreadPoolExecutor(len(flavors) + 1) as pool:
            asked = [
                pool.submit(self.ask, f"burst-{number}", flavor)
                for number, flavor in enumerate(flavors)
            ]
            if meanwhile is not None:
                pool.submit(meanwhile).result()
            return [done.result() for done in asked]

    def servers(self) -> dict[str, dict]:
        """Describe all servers, by UUID."""
        reply = self.compute.get("/servers/detail?all_tenants=1&limit=1000")
        exceptions.raise_from_response(reply)
        return {server["id"]: server for server in reply.json()["servers"]}

    def settle(
        self,
        uuids: Iterable[str],
        statuses: Collection[str] = SETTLED,
        patience_seconds: float = 120.0,
    ) -> list[dict]:
        """Wait until servers have one of some statuses and nothing to do.

        :returns: the servers, as they are then or when patience ends.
        """
        wanted = list(uuids)
        found: list[dict] = []

        def have_settled() -> bool:
            servers = self.servers()
            found[:] = [servers[uuid] for uuid in wanted if uuid in servers]
            return all(
                server["status"] in statuses
                and server["OS-EXT-STS:task_state"] is None
                for server in found
            )

        waiting.until(have_settled, patience_seconds)
        return found

    def delete(
        self, uuids: Iterable[str], patience_seconds: float = 120.0
    ) -> list[str]:
        """Delete servers and wait until they are gone.

        :returns: those that are still there when patience ends.
        """
        wanted = set(uuids)
        for uuid in wanted:
            self.compute.delete(f"/servers/{uuid}")

        def are_gone() -> bool:
            left = {
                uuid: server
                for uuid, server in self.servers().items()
                if uuid in wanted
            }
            for uuid, server in left.items():
                # nova-compute gave up: it read the allocations of another
                # server while these went, and took them for lost
                # (nova/compute/pci_placement_translator.py, healing).
                if server["OS-EXT-STS:task_state"] is None:
                    self.compute.delete(f"/servers/{uuid}")
            return not left

        waiting.until(are_gone, patience_seconds)
        return sorted(wanted & self.servers().keys())

    def read_console(self, uuid: str) -> str:
        """Read what a guest has said; empty where it has no console yet."""
        reply = self.compute.post(
            f"/servers/{uuid}/action", json={"os-getConsoleOutput": {}}
        )
        return reply.json().get("output", "") if reply.ok else ""

    def fault(self, uuid: str) -> str:
        """Read why a server is in ERROR."""
        reply = self.compute.get(f"/servers/{uuid}")
        exceptions.raise_from_response(reply)
        return reply.json()["server"].get("fault", {}).get("message", "")
