# SPDX-License-Identifier: Apache-2.0

"""A machine with an NVSwitch board: libvirt, its hook, the agent, a stand-in
for Fabric Manager; and its provider in a Placement on this side.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import shutil
import time
from typing import Any
import urllib.request

from nova_gpu_filter.fleet.reserving import Mark
from tests import smi_files
from tests.functional import web
from tests.functional.placement import service
from tests.hardware import emulated_machines
from tests.hardware import facts as facts_lib
from tests.hardware import nova_scripts
from tests.hardware import parts as parts_lib
from tests.hardware import site
from tests.hardware.guest import Guest
from tests.unit.agent.fabric import managers

SECONDS = 300
"""Ten times what anything here takes on a quiet machine."""
CLASS = "CUSTOM_H100"
ALIAS = "h100"
_MANAGER = "/run/fm"
_CALLS = "/run/hook-calls"
_BINDINGS = ":/usr/lib/python3/dist-packages"
_COMMAND = """\
#!/bin/busybox sh
export PYTHONPATH=/guest/site:/state/site{bindings} PYTHONDONTWRITEBYTECODE=1
cd {repository}
exec {python} -W ignore -c 'import sys
from nova_gpu_filter.cmd import launch
sys.exit(launch.run_agent())' "$@"
"""
_CONF = """\
[gpu_agent]
devices = all
hypervisor_hostname = {name}
interval = 3
fabric_manager = {manager}
fabric_library = /run/libnvfm.so
fabric_deadline = 5
fabric_interval = 0.5
[placement]
auth_type = admin_token
endpoint = {placement}
token = admin
"""
# What a second hook of the operator's writes down.
_WITNESS = f"""\
#!/bin/sh
cat >/dev/null
echo "$1 $2 $3" >> {_CALLS}
"""
_DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/extras/boot/payload</kernel>
  </os>
  <devices>
    <serial type='file'><source path='/run/{name}.console'/></serial>
    {devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""
_HOSTDEV = """\
<hostdev mode='subsystem' type='pci' managed='yes'><source>
<address domain='0x{0}' bus='0x{1}' slot='0x{2}' function='0x{3}'/>
</source></hostdev>
"""


class Manager(managers.Manager):
    """A Fabric Manager in a machine."""

    def __init__(
        self, guest: Guest, partitions: Mapping[int, Sequence[int]]
    ) -> None:
        self._guest = guest
        super().__init__(_MANAGER, partitions)

    def read(self) -> list[str]:
        """Read its lines."""
        return self._guest.shell(
            f"flock {self.path} cat {self.path}"
        ).splitlines()

    def write(self, lines: Iterable[str]) -> None:
        """Write its lines."""
        text = "\n".join(lines)
        self._guest.shell(
            f"flock {self.path} tee {self.path} >/dev/null <<'END'\n"
            f"{text}\nEND"
        )


@contextlib.contextmanager
def start(
    boot: Callable[[emulated_machines.Machine], Guest],
    machine: emulated_machines.Machine,
) -> Iterator[tuple["Node", service.Placement]]:
    """Boot a machine beside a Placement of its own, which it reaches."""
    with (
        service.Placement() as placement,
        web.serve(placement.applications["stock"]) as url,
    ):
        guest = boot(machine)
        # QEMU's name for the machine that emulates it.
        yield Node(guest, url.replace("127.0.0.1", "10.0.2.2")), placement


class Node:
    """The machine; its GPUs are known by their names, from gpu0 on."""

    def __init__(self, guest: Guest, placement: str) -> None:
        """Nothing is done to the machine yet.

        :param placement: URL of a Placement on this side.
        """
        self.guest = guest
        self.addresses = facts_lib.addresses(guest)
        self.manager: Manager
        self._placement = placement

    def name(self, address: str) -> str:
        """Name a GPU's provider, as Nova does."""
        return f"{self.guest.machine.name}_{address.upper()}"

    def providers(self, gpus: Iterable[str]) -> list[service.Provider]:
        """Describe what nova-compute would have in Placement.

        :param gpus: those that are given away; to clean one takes a second.
        """
        root = self.guest.machine.name
        return [
            service.Provider(root, None, {"VCPU": service.Inventory(8)}),
            *(
                service.Provider(
                    self.name(self.addresses[gpu]),
                    root,
                    {CLASS: service.Inventory(1)},
                )
                for gpu in gpus
            ),
        ]

    # -- what the operator does

    def configure(
        self,
        partitions: Mapping[int, Sequence[int]],
        modules: Mapping[str, int],
    ) -> None:
        """Put a board into the machine, and write its tags.

        :param modules: name of a GPU -> its Module Id.
        """
        self.manager = Manager(self.guest, partitions)
        by_address = {
            self.addresses[name]: id_ for name, id_ in modules.items()
        }
        (self.guest.state / "q.txt").write_text(smi_files.query(by_address))
        (self.guest.state / "fmpm.json").write_text(
            smi_files.fmpm(
                partitions, {id_: one for one, id_ in by_address.items()}
            )
        )
        for arguments in (
            ("--write", "/etc/nova/devices.conf"),
            (
                *("--role", "controller", "--alias", ALIAS),
                *("--write", "/etc/nova/alias.conf"),
            ),
        ):
            answer = self.guest.host(
                "config",
                *("--fabric", "/state/fmpm.json"),
                *("--nvidia-smi-q", "/state/q.txt"),
                *(word for one in by_address for word in ("--device", one)),
                *arguments,
            )
            assert answer.code == 0, answer

    def install(self) -> None:
        """Install agent and hook as doc/source/admin/fabric.rst says."""
        state = self.guest.state
        site.copy(state / "site", "agent")
        shutil.copy(managers.build(), state / "libnvfm.so")
        command = state / "nova-gpu-agent"
        command.write_text(
            _COMMAND.format(
                bindings=_BINDINGS,
                repository=parts_lib.REPOSITORY,
                python=parts_lib.PYTHON,
            )
        )
        command.chmod(0o755)
        witness = state / "witness"
        witness.write_text(_WITNESS)
        witness.chmod(0o755)
        etc = state / "etc" / "nova"
        etc.mkdir()
        (etc / "nova.conf").write_text(
            _CONF.format(
                name=self.guest.machine.name,
                manager=_MANAGER,
                placement=self._placement,
            )
        )
        nova_scripts.write_conf(self.guest, "compute.conf")
        hooks = "/etc/libvirt/hooks/qemu.d"
        self.guest.shell(
            "set -e; cp /state/libnvfm.so /run;"
            " cp /state/nova-gpu-agent /guest/bin; start-libvirt;"
            f" mkdir -p {hooks};"
            f" nova-gpu-agent fabric hook > {hooks}/nova-gpu-agent;"
            f" chmod 755 {hooks}/nova-gpu-agent;"
            f" cp /state/witness {hooks}/witness"
        )
        self.restart_libvirt()

    def bind_for_guests(self, *names: str) -> None:
        """Have GPUs rest on vfio-pci."""
        for name in names:
            address = self.addresses[name]
            path = f"/sys/bus/pci/devices/{address}"
            self.guest.shell(
                f"echo vfio-pci > {path}/driver_override;"
                f" echo {address} > {path}/driver/unbind;"
                f" echo {address} > /sys/bus/pci/drivers_probe"
            )

    def restart_libvirt(self) -> None:
        """Kill libvirtd, and start it as systemd would."""
        self.guest.shell(
            "pkill -9 -x libvirtd;"
            " while pgrep -x libvirtd; do sleep 0.2; done;"
            " rm -f /run/libvirtd.pid;"
            # Where the hook finds a Python.
            f" PATH=$PATH:{parts_lib.PYTHON.parent}"
            " /usr/sbin/libvirtd --daemon; virsh -q list"
        )

    def start_agent(self) -> None:
        """Start the agent, and wait until it listens."""
        self.guest.shell(
            "nova-gpu-agent run --config-file /etc/nova"
            " >>/state/agent.log 2>&1 & echo $! >/run/agent.pid;"
            # The socket of an agent that was killed is still there.
            " until socat -u OPEN:/dev/null"
            " UNIX-CONNECT:/run/nova-gpu-agent/agent.sock 2>/dev/null;"
            " do kill -0 $(cat /run/agent.pid) || exit 1; sleep 0.2; done"
        )

    def end_agent(self, number: int = 9) -> None:
        """End the agent by a signal."""
        self.guest.shell(
            f"kill -{number} $(cat /run/agent.pid);"
            " while kill -0 $(cat /run/agent.pid) 2>/dev/null;"
            " do sleep 0.2; done"
        )

    # -- what Nova does

    def create(self, name: str, *gpus: str) -> str:
        """Start a guest.

        :returns: why it does not start; else "".
        """
        devices = "".join(
            _HOSTDEV.format(*self.addresses[one].replace(".", ":").split(":"))
            for one in gpus
        )
        (self.guest.state / "domain.xml").write_text(
            _DOMAIN.format(name=name, devices=devices)
        )
        said = self.guest.shell(
            "virsh -q create /state/domain.xml 2>&1 || echo FAILED"
        )
        return said if "FAILED" in said else ""

    def destroy(self, name: str) -> None:
        """End a guest."""
        self.guest.shell(f"virsh -q destroy {name}")

    def wait_for_dma(self, name: str, count: int) -> None:
        """Wait until a guest has done DMA with so many devices."""
        path = f"/run/{name}.console"
        self.wait(
            lambda: (
                self.guest.shell(f"grep -c 'DMA right' {path} || true").strip()
                == str(count)
            ),
            lambda: self.guest.shell(f"cat {path}"),
        )

    def build(self, *groups: Iterable[str]) -> Any:
        """Have Nova build a server on each group of GPUs, and delete it.

        :returns: what nova_fabric.py tells.
        """
        return nova_scripts.run(
            self.guest,
            "nova_fabric",
            *(ALIAS, _MANAGER),
            *(
                ",".join(self.addresses[one] for one in group)
                for group in groups
            ),
        )

    # -- what there is

    def wait(
        self,
        condition: Callable[[], bool],
        explain: Callable[[], Any] | None = None,
    ) -> None:
        """Wait for something."""
        until = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < until, (
                explain() if explain else self.manager.read(),
                self.said(),
            )
            time.sleep(0.3)

    def said(self) -> str:
        """Read the end of what the agent has said."""
        path = self.guest.state / "agent.log"
        return "\n".join(path.read_text().splitlines()[-30:])

    def domains(self) -> dict[str, str]:
        """Read which guests run: name -> process of its QEMU."""
        return {
            name: self.guest.shell(f"cat /run/libvirt/qemu/{name}.pid").strip()
            for name in self.guest.shell("virsh -q list --name").split()
        }

    def drivers(self) -> dict[str, str]:
        """Read the driver of each GPU."""
        said = self.guest.shell(
            "; ".join(
                f"readlink /sys/bus/pci/devices/{address}/driver || echo"
                for address in self.addresses.values()
            )
        )
        names = (line.rpartition("/")[2] for line in said.splitlines())
        return dict(zip(self.addresses, names, strict=True))

    def hook_calls(self) -> list[str]:
        """Read how libvirt has called hooks: name, operation, part."""
        return self.guest.shell(f"cat {_CALLS}").splitlines()

    def ask_agent(self, *arguments: str) -> Any:
        """Run a command of the agent that prints JSON, and read that."""
        said = self.guest.shell(
            f"nova-gpu-agent {' '.join(arguments)} -f json"
        )
        return json.loads(said)

    def _ask_placement(self, path: str) -> Any:
        request = urllib.request.Request(  # noqa: S310 - of our own
            # From this side.
            self._placement.replace("10.0.2.2", "127.0.0.1") + path,
            headers={
                "X-Auth-Token": "admin",
                "OpenStack-API-Version": "placement 1.31",
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def offered(self) -> set[str]:
        """Ask Placement which GPUs that it has a server could get."""
        names = {
            service.provider_uuid(self.name(address)): name
            for name, address in self.addresses.items()
        }
        path = f"/allocation_candidates?resources={CLASS}:1"
        return {
            names[uuid]
            for one in self._ask_placement(path)["allocation_requests"]
            for uuid in one["allocations"]
        }

    def devices(self, *gpus: str) -> dict[str, str]:
        """Read what Placement says of GPUs that the agent has seen."""
        found = {}
        for name in gpus:
            uuid = service.provider_uuid(self.name(self.addresses[name]))
            path = f"/resource_providers/{uuid}"
            marks = self._ask_placement(f"{path}/aggregates")["aggregates"]
            inventory = self._ask_placement(f"{path}/inventories")
            is_reserved = inventory["inventories"][CLASS]["reserved"]
            if Mark.QUARANTINED in marks:
                assert is_reserved
                found[name] = "quarantined"
            elif Mark.MANAGED in marks:
                found[name] = "reserved" if is_reserved else "free"
        return found
