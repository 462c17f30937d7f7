# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu``: what each costs beside the client's start.

They are run in this process, by their entry points, on a real Placement and a
stand-in for Nova, so that what the services need can be told from what the
commands do. Three of eight GPUs of each host belong to a server.
"""

from collections.abc import Iterator
import logging
import subprocess
import sys
import threading
import time
import types
from typing import Any
import uuid

from bench import report

PROJECT = "6f70656e737461636b20342065766572"
COMMANDS = (
    "host list",
    "host show {host}",
    "device list",
    "device list --host {host}",
    "device list --server {server}",
    "device list --long",
    "device show {host}_0000:1b:00.0",
    "topology show {host}",
    "capacity {aliases}",
    "explain --flavor h100.8 {aliases}",
    "explain --server {server} {aliases}",
    "flavor check h100.8 {aliases}",
    "quota {aliases}",
    "drift {aliases}",
)
GOAL_MS = 500.0
"""On two hosts, beside the client's own start."""
ROUNDS = 3
_OWN_START = "import openstack, osc_lib.shell, cliff.app, cliff.commandmanager"
_START = f"""
import time
{_OWN_START}
start = time.process_time()
import {{module}}
print((time.process_time() - start) * 1000)
"""


def run(full: bool) -> report.Report:
    """Measure every command on 2 and on 1,000 hosts.

    :param full: no more than without.
    """
    result = report.Report(
        "openstack gpu: milliseconds of processor time of each command, beside"
        " the client's own start",
        {
            "hosts": "hosts",
            "command": "command",
            "import_ms": "import",
            "ours_ms": "ours",
            "services_ms": "services",
            "together_ms": "together",
            "wall_ms": "wall",
            "requests": "requests",
            "goal_met": "met",
        },
        notes=(
            "import: loading the command, after what the client itself loads"
            " (a process of its own). ours: what it does then;",
            "services: the answers of Placement (SQLite in memory) and of a"
            " stand-in for Nova. wall: both, one after the other.",
            f"Best of {ROUNDS}. met: import, ours and services together are at"
            f" most {GOAL_MS:.0f} ms on 2 hosts.",
            f"The client's own start here: {_measure_own_start():,.0f} ms.",
        ),
    )
    for hosts in (2, 1000):
        _measure(hosts, result)
    return result


def _measure_own_start() -> float:
    """Time what every command of OpenStackClient loads first, in ms."""
    script = f"import time\n{_OWN_START}\nprint(time.process_time() * 1000)\n"
    return min(_run_python(script) for _ in range(ROUNDS))


def _run_python(script: str) -> float:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def _measure_import(command: str) -> float:
    from importlib import metadata

    words = command.partition(" -")[0].split()
    (entry_point,) = (
        found
        for found in metadata.entry_points(group="openstack.gpu.v1")
        if found.name.split("_")[1:]
        in (words[: len(found.name.split("_")) - 1],)
    )
    script = _START.format(module=entry_point.module)
    return min(_run_python(script) for _ in range(ROUNDS))


def _measure(hosts: int, result: report.Report) -> None:
    from tests.functional.osc import shell
    from tests.functional.placement import service

    logging.getLogger("tests.openstack").setLevel(logging.ERROR)
    with service.Placement() as placement:
        services = _Counted(placement, hosts)
        openstack = shell.Shell(services.adapters)
        for command in COMMANDS:
            arguments = list(_arguments(command))
            best: dict[str, Any] = {}
            for _ in range(ROUNDS):
                services.reset()
                wall, cpu = time.perf_counter(), time.process_time()
                done = openstack.run("gpu", *arguments)
                wall_ms = (time.perf_counter() - wall) * 1000
                cpu_ms = (time.process_time() - cpu) * 1000
                if done.code:
                    result.errors.append(f"{command}: {done.err}")
                if not best or cpu_ms < best["cpu_ms"]:
                    best = {
                        "cpu_ms": cpu_ms,
                        "wall_ms": wall_ms,
                        "services_ms": services.ms,
                        "requests": services.requests,
                    }
            import_ms = _measure_import(command)
            together_ms = import_ms + best["cpu_ms"]
            result.rows.append(
                {
                    "hosts": hosts,
                    "command": command.partition(" {aliases}")[0],
                    "import_ms": import_ms,
                    "ours_ms": best["cpu_ms"] - best["services_ms"],
                    "together_ms": together_ms,
                    "goal_met": together_ms <= GOAL_MS if hosts == 2 else None,
                    **best,
                }
            )


def _arguments(command: str) -> Iterator[str]:
    for word in command.split():
        if word == "{aliases}":
            yield "--alias"
            yield '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'
        else:
            yield word.format(host=_name(0), server=_server_name(0))


def _name(host: int) -> str:
    return f"hgx-{host:04}"


def _server_name(host: int) -> str:
    return f"train-{host:04}"


class _Counted:
    """Services that count what they are asked, and what it costs them."""

    def __init__(self, placement: Any, hosts: int) -> None:
        from tests.functional.fleet import adapters

        self._lock = threading.Lock()
        self.reset()
        self.adapters = types.SimpleNamespace(
            placement=self._count(adapters.PlacementAdapter(placement)),
            compute=self._count(_nova(placement, hosts)),
            identity=self._count(
                adapters.Keystone(
                    {PROJECT: "lab"}, [("class:CUSTOM_GPU_H100", 8, None)]
                )
            ),
        )

    def reset(self) -> None:
        """Begin to count anew."""
        self.ms, self.requests = 0.0, 0

    def _count(self, adapter: Any) -> Any:
        ask = adapter.get

        def get(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return ask(*args, **kwargs)
            finally:
                with self._lock:
                    self.ms += (time.thread_time() - start) * 1000
                    self.requests += 1

        adapter.get = get
        return adapter


def _nova(placement: Any, hosts: int) -> Any:
    """Fill Placement, and make a Nova that agrees with it."""
    from tests.functional.fleet import adapters
    from tests.functional.placement import service
    from tests.unit.fleet import builders

    found = [builders.machine(_name(number)) for number in range(hosts)]
    placement.replace_providers(
        provider
        for host in found
        for provider in (
            service.Provider(
                host.name,
                inventories={
                    name: service.Inventory(amount.capacity)
                    for name, amount in host.amounts.items()
                },
            ),
            *(
                service.Provider(
                    device.name,
                    host.name,
                    {"CUSTOM_GPU_H100": service.Inventory(1)},
                    tuple(device.traits),
                )
                for device in host.devices
            ),
        )
    )
    servers = []
    flavors = [_flavor(count) for count in (1, 2, 4, 8)]
    for number, host in enumerate(found):
        consumer = str(uuid.uuid5(uuid.NAMESPACE_URL, host.name))
        resources = {host.name: {"VCPU": 8, "MEMORY_MB": 65536}} | {
            device.name: {"CUSTOM_GPU_H100": 1} for device in host.devices[:3]
        }
        answer = placement.stock(
            f"/allocations/{consumer}",
            method="PUT",
            body={
                "allocations": {
                    service.provider_uuid(name): {"resources": amounts}
                    for name, amounts in resources.items()
                },
                "project_id": PROJECT,
                "user_id": "user",
                "consumer_generation": None,
                "consumer_type": "INSTANCE",
            },
        )
        if answer.status != 204:
            raise RuntimeError(f"{host.name}: {answer.body!r}")
        servers.append(_server(consumer, number))
    nova = adapters.Nova(
        servers,
        flavors,
        [service.provider_uuid(host.name) for host in found],
    )
    return nova.add_services(host.name for host in found)


def _flavor(count: int) -> dict[str, Any]:
    return {
        "id": str(count),
        "name": f"h100.{count}",
        "vcpus": 8,
        "ram": 65536,
        "disk": 0,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "swap": "",
        "extra_specs": {"pci_passthrough:alias": f"h100:{count}"},
    }


def _server(consumer: str, number: int) -> dict[str, Any]:
    return {
        "id": consumer,
        "name": _server_name(number),
        "tenant_id": PROJECT,
        "status": "ACTIVE",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": _name(number),
        "flavor": {
            "original_name": "h100.3",
            "vcpus": 8,
            "ram": 65536,
            "disk": 0,
            "ephemeral": 0,
            "swap": 0,
            "extra_specs": {"pci_passthrough:alias": "h100:3"},
        },
    }
