# SPDX-License-Identifier: Apache-2.0

"""A whole cloud in one process: start it, change it, use its API."""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import logging
import pathlib
import time
from typing import Any

from demo import services

# isort: split

from nova import utils as nova_utils
from nova.tests.fixtures import glance
from nova.tests.functional.api import client

from demo import cloud_reader
from demo import fake_machines
from demo import scheduler_log
from demo.cloud_reader import Server

CONF_DIR = pathlib.Path(__file__).parent / "conf"

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
# Not less: asking takes time that what is asked for needs to run.


class CloudTimeoutError(Exception):
    """Something that was waited for did not happen."""


class EmbeddedCloud(
    cloud_reader.CloudReader, contextlib.AbstractContextManager
):
    """Nova with libvirt computes on a fake libvirt, and Placement.

    Everything that decides is the real code: REST API, scheduler, conductor,
    compute manager, resource tracker, PCI tracker, libvirt driver, Placement.
    Not real are libvirt, Keystone, Glance, Neutron, Cinder and the message
    queue, for which Nova's test fixtures stand in. One at a time can run in a
    process, since Nova has one configuration a process.
    """

    def __init__(
        self,
        *conf_files: str | pathlib.Path,
        placement_conf: str | pathlib.Path = "placement.conf",
        log_handler: logging.Handler | None = None,
        extend_placement: bool = False,
    ) -> None:
        """Nothing is started yet.

        :param conf_files: nova.conf files, later ones win; a relative name is
            one in ``demo/conf``.
        :param extend_placement: run Placement behind our extension.
        :param log_handler: gets what all services log, from its level up.
        """
        decisions = scheduler_log.Recorder()
        handlers: list[tuple[str, int, logging.Handler]] = [
            (name, logging.DEBUG, decisions) for name in scheduler_log.LOGGERS
        ]
        if log_handler is not None:
            handlers.append(("", log_handler.level, log_handler))
        running = services.Services(
            [CONF_DIR / name for name in conf_files],
            [CONF_DIR / placement_conf],
            handlers,
            extend_placement,
        )
        super().__init__(running, decisions)
        self._flavors: dict[str, str] = {}

    def __enter__(self) -> "EmbeddedCloud":
        self.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all services but the compute hosts.

        :raises Exception: what stopped a service; nothing runs then.
        """
        self._services.start()
        self._record_device_states()

    def stop(self) -> None:
        """Stop what runs; harmless when nothing does."""
        self._services.stop()

    # Set up and change the cloud.

    @property
    def services(self) -> services.Services:
        """Nova's own test base, for what only a test needs."""
        return self._services

    def configure(self, *conf_files: str | pathlib.Path) -> None:
        """Put other nova.conf files in place; services read them at start."""
        self._services.configure([CONF_DIR / name for name in conf_files])

    def add_compute(self, host: str, machine: fake_machines.Machine) -> None:
        """Start nova-compute on a new host."""
        self._services.start_compute(
            host, host_info=machine.host_info, pci_info=machine.pci_info
        )

    def restart_compute(self, host: str) -> None:
        """Start nova-compute anew; the guests of the host run on."""
        self._services.restart_compute_service(host)

    def restart_scheduler(self) -> None:
        """Start nova-scheduler anew."""
        self._services.restart_scheduler()

    def run_periodic_task(self) -> None:
        """Let all hosts do what nova-compute does once a minute.

        That is, compare what the host has with what its servers use.
        """
        self._services._run_periodics()

    def create_flavor(self, name: str, extra_specs: Mapping[str, str]) -> None:
        """Create a small flavor with extra specs."""
        flavor = self._api.post_flavor(
            {
                "flavor": {
                    "id": name,
                    "name": name,
                    "ram": 1024,
                    "vcpus": 1,
                    "disk": 1,
                }
            }
        )
        self._flavors[name] = flavor["id"]
        self._api.post_extra_spec(
            flavor["id"], {"extra_specs": dict(extra_specs)}
        )

    def set_extra_specs(
        self,
        flavor: str,
        extra_specs: Mapping[str, str],
        microversion: str = "latest",
    ) -> str | None:
        """Add extra specs to a flavor, or try to.

        :param microversion: of the compute API.
        :returns: why nova-api refuses them; None if it does not.
        """
        with nova_utils.temporary_mutation(
            self._api, microversion=microversion
        ):
            reply = self._api.api_post(
                f"/flavors/{self._flavors[flavor]}/os-extra_specs",
                {"extra_specs": dict(extra_specs)},
                # Give us the reply, whatever its status.
                check_response_status=[],
            )
        if reply.status < 400:
            return None
        [fault] = reply.body.values()
        return fault["message"]

    # Use the compute API.

    def boot(
        self,
        name: str,
        flavor: str,
        host: str | None = None,
        networks: str | list[dict[str, str]] = "none",
    ) -> Server:
        """Create a server and wait until it is ACTIVE or ERROR."""
        body = self._server_body(name, flavor, networks)
        if host is not None:
            body["host"] = host
        uuid = self._api.post_server({"server": body})["id"]
        self._server_names[uuid] = name
        return self.wait_for_status(uuid, "ACTIVE", "ERROR")

    def boot_many(self, name: str, flavor: str, count: int) -> list[Server]:
        """Create several servers with one request; they are name-1 and so on.

        :returns: the servers, by name.
        """
        body = self._server_body(name, flavor, "none")
        body.update(
            min_count=count, max_count=count, return_reservation_id=True
        )
        self._api.post_server({"server": body})
        uuids = [
            found["id"]
            for found in self._api.get_servers()
            if found["name"].startswith(f"{name}-")
        ]
        servers = [
            self.wait_for_status(uuid, "ACTIVE", "ERROR") for uuid in uuids
        ]
        self._server_names.update({s.uuid: s.name for s in servers})
        return sorted(servers, key=lambda server: server.name)

    def delete(self, server: Server) -> None:
        """Delete a server and wait until its resources are free."""
        self._api.delete_server(server.uuid)

        def is_gone() -> bool:
            with contextlib.suppress(client.OpenStackApiNotFoundException):
                self._api.get_server(server.uuid)
                return False
            return True

        self.wait_until(is_gone, f"{server.name} to be deleted")

        def is_free() -> bool:
            return not self.allocations(server) and not self.list_devices(
                server
            )

        # After a cold migration Nova frees the devices of a deleted server
        # only with the next run of this task.
        if not is_free():
            self.run_periodic_task()
        self.wait_until(is_free, f"the resources of {server.name} to be free")

    def resize(self, server: Server, flavor: str) -> Server:
        """Resize and wait for VERIFY_RESIZE; still to be confirmed."""
        return self._act(
            server,
            {"resize": {"flavorRef": self._flavors[flavor]}},
            "VERIFY_RESIZE",
        )

    def migrate(self, server: Server, host: str | None = None) -> Server:
        """Cold migrate and wait for VERIFY_RESIZE; still to be confirmed."""
        return self._act(
            server,
            {"migrate": {"host": host} if host else None},
            "VERIFY_RESIZE",
        )

    def confirm(self, server: Server) -> Server:
        """Confirm a resize or a migration; what the source held is free."""
        return self._act(server, {"confirmResize": None}, "ACTIVE")

    def revert(self, server: Server) -> Server:
        """Revert a resize or a migration."""
        return self._act(server, {"revertResize": None}, "ACTIVE")

    def rebuild(self, server: Server) -> Server:
        """Rebuild a server with the other image that the fixture has."""
        image = glance.GlanceFixture.auto_disk_config_enabled_image["id"]
        return self._act(server, {"rebuild": {"imageRef": image}}, "ACTIVE")

    def show(self, server: Server) -> Server:
        """Ask the API about a server again."""
        return self._to_server(self._api.get_server(server.uuid))

    # Helpers.

    @property
    def _api(self) -> client.TestOpenStackClient:
        return self._services.api

    def _server_body(
        self, name: str, flavor: str, networks: str | list[dict[str, str]]
    ) -> dict[str, Any]:
        return {
            "name": name,
            "flavorRef": self._flavors[flavor],
            "imageRef": glance.GlanceFixture.image1["id"],
            "networks": networks,
        }

    def _to_server(self, body: Mapping[str, Any]) -> Server:
        return Server(
            name=body["name"],
            uuid=body["id"],
            status=body["status"],
            host=body["OS-EXT-SRV-ATTR:host"],
            fault=body.get("fault", {}).get("message"),
        )

    def _act(
        self, server: Server, action: Mapping[str, Any], status: str
    ) -> Server:
        self._api.post_server_action(server.uuid, action)
        return self.wait_for_status(server.uuid, status, "ERROR")

    def wait_for_status(self, uuid: str, *statuses: str) -> Server:
        """Wait until a server has one of the statuses, and is idle.

        :raises CloudTimeoutError: it took too long.
        """
        body: dict[str, Any] = {}

        def has_settled() -> bool:
            body.update(self._api.get_server(uuid))
            # A fault is written after the status that it explains.
            return (
                body["status"] in statuses
                and body["OS-EXT-STS:task_state"] is None
                and (body["status"] != "ERROR" or "fault" in body)
            )

        self.wait_until(has_settled, f"server {uuid} to be {statuses}")
        return self._to_server(body)

    @staticmethod
    def wait_until(is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so.

        :param what: it, for the error message.
        :raises CloudTimeoutError: it took too long.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise CloudTimeoutError(
                    f"waited {_PATIENCE_SECONDS:.0f} s for {what}"
                )
            time.sleep(_POLL_SECONDS)
