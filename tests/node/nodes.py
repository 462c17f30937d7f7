# SPDX-License-Identifier: Apache-2.0

"""Compute hosts of a cloud that are emulated machines.

In each of them a real kernel has the devices, nova-gpu-host writes the
configuration, and nova-compute gives them to guests with a real libvirt.
"""

from collections.abc import Callable
from collections.abc import Collection
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess

from cloud import configs
from cloud import control
from cloud import domain_xml
from tests.cloud import views
from tests.cloud import waiting
from tests.hardware import cures
from tests.hardware import facts as facts_lib
from tests.hardware import guest as guest_lib
from tests.hardware import parts as parts_lib
from tests.node import guest_python
from tests.node import kinds

_PORTS = ("rabbitmq", "keystone", "glance", "placement", "neutron", "nova")
_STATE = "/var/lib/nova"
_NETWORK = "10.9.0"
"""In which hosts copy disks to each other; ssh knows what it means."""
_SSH_PORT = 22
_DISK = "var-lib.ext4"
# Of a sparse file.
_DISK_BYTES = 4 << 30
START_SECONDS = 900.0
"""An emulated nova-compute takes minutes where a real one takes seconds."""
_PATIENCE_SECONDS = 300.0
_RPC_SECONDS = 180
"""How long nova-compute waits for an answer."""

_CHANGES: configs.Sections = {
    "DEFAULT": {
        "state_path": _STATE,
        # As on a host of GPU servers: they run again when it does.
        "resume_guests_state_on_host_boot": True,
        # Seconds; the defaults are for a processor that is not emulated.
        "rpc_response_timeout": _RPC_SECONDS,
        "update_resources_interval": 30,
        # The guest's kernel does not listen to a request to end.
        "shutdown_timeout": 1,
    },
    "oslo_concurrency": {"lock_path": f"{_STATE}/lock"},
    "libvirt": {
        "virt_type": "qemu",
        "images_type": "raw",
        # Seconds, after which a soft reboot is a hard one.
        "wait_soft_reboot_seconds": 1,
    },
    # Seconds between two looks; events of libvirt lead to one at once, but
    # a test waits for one where Placement alone has changed.
    "gpu_agent": {"interval": 2},
}
# nova/conf/pci.py has both.
_OLD_NAMES = {
    "device_spec": "pci_passthrough_whitelist",
    "alias": "pci_alias",
}
_COMPUTE = "nova-compute"
_AGENT = "nova-gpu-agent"
_COMPUTE_LOG = f"{_COMPUTE}.log"
_AGENT_LOG = f"{_AGENT}.log"


class Node:
    """One compute host."""

    def __init__(
        self,
        cloud: control.Cloud,
        kind: kinds.Kind,
        parts: parts_lib.Parts,
        number: int,
        name: str | None = None,
        has_old_names: bool = False,
    ) -> None:
        """Nothing is booted yet.

        :param number: of the host in the cloud, from 1 on.
        :param name: of the host; None: that of its kind.
        :param has_old_names: whether its nova.conf has the names that options
            had in 2016, as that of a host which was upgraded ever since.
        """
        self.name = name or kind.machine.name
        self.address = f"{_NETWORK}.{number}"
        self.ssh_port = _free_port()
        self.guest = guest_lib.Guest(
            dataclasses.replace(
                kind.machine,
                name=self.name,
                forwarded={self.ssh_port: _SSH_PORT},
            ),
            parts,
        )
        self.gpus = sum(
            gpu.name != kind.machine.console for gpu in kind.machine.gpus
        )
        self._kind = kind
        self._cloud = cloud
        self._has_old_names = has_old_names
        self._is_in_cell = False

    @property
    def key(self) -> pathlib.Path:
        """What opens its sshd, after :func:`introduce`."""
        return self.guest.state / "etc" / "ssh" / "key"

    @property
    def log(self) -> pathlib.Path:
        """What nova-compute prints."""
        return self.guest.state / _COMPUTE_LOG

    @property
    def etc(self) -> pathlib.Path:
        """Its /etc/nova, of which nova-compute reads all files."""
        return self.guest.state / "etc" / "nova"

    def boot(self) -> None:
        """Boot, and have Python import what services need, in its time."""
        self.guest.boot()
        guest_python.start(self.guest)

    def prepare(self) -> None:
        """Boot, unless it is on, and have everything that nova-compute needs.

        ``nova-gpu-host config`` writes the options of the devices beside
        those of the cloud.
        """
        if not self.guest.is_on:
            self.boot()
        self.make_ready()
        self._configure(
            "--one-time-use", "--write", "/etc/nova/3-devices.conf"
        )
        (self.etc / "4-aliases.conf").write_text(self._write_aliases())
        if self._has_old_names:
            for name in ("3-devices.conf", "4-aliases.conf"):
                text = (self.etc / name).read_text()
                for new, old in _OLD_NAMES.items():
                    text = re.sub(
                        rf"(?m)^{new} = (.*)$",
                        rf"[DEFAULT]\n{old} = \1\n[pci]",
                        text,
                    )
                (self.etc / name).write_text(text)

    def make_ready(self) -> None:
        """Do what ``nova-gpu-host check`` says until it is READY.

        Then libvirt runs, and nova.conf has what the cloud needs.
        """
        _, left = cures.follow(self.guest)
        assert left == self._kind.warnings
        self._format_disk()
        self._start_libvirt()
        self.etc.mkdir(exist_ok=True)
        path = self._cloud.files.path("nova/nova-compute.conf")
        (self.etc / "1-cloud.conf").write_text(path.read_text())
        (self.etc / "2-machine.conf").write_text(
            configs.render(
                {
                    **_CHANGES,
                    "DEFAULT": {
                        **_CHANGES["DEFAULT"],
                        "host": self.name,
                        "my_ip": self.address,
                    },
                    # Nova's daemon for what only root may do.
                    "nova_sys_admin": {
                        "helper_command": guest_python.command(
                            "privsep-helper", "--config-dir", "/etc/nova"
                        )
                    },
                }
            )
        )

    def configure_controller(self) -> None:
        """Write what the controller's services need, and restart them."""
        options = configs.render(
            {
                # A report that nova-conductor took with it when it was
                # restarted is sent again after rpc_response_timeout.
                "DEFAULT": {"service_down_time": 3 * _RPC_SECONDS}
            }
        )
        aliases = self._write_aliases()
        with open(self._cloud.files.path("nova/nova.conf"), "a") as file:
            file.write(f"{options}\n{aliases}")
        self._cloud.restart("nova-api", "nova-conductor", "nova-scheduler")

    def _format_disk(self) -> None:
        """Make what outlives a loss of power: /var/lib, as an ext4."""
        disk = self.guest.state / _DISK
        with open(disk, "wb") as file:
            file.truncate(_DISK_BYTES)
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", str(disk)],
            check=True,
            capture_output=True,
            env={
                **os.environ,
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            },
        )

    def _start_libvirt(self) -> None:
        self.guest.shell(
            "modprobe -a loop ext4; mkdir -p /var/lib;"
            f" mount -o loop /state/{_DISK} /var/lib && start-libvirt"
        )

    def start_sshd(self) -> None:
        """Have other hosts log in; their keys are in /etc/ssh."""
        self.guest.shell(
            "mkdir -p /run/sshd; grep -q ^sshd: /etc/passwd ||"
            " echo sshd:x:64057:64057::/run/sshd:/bin/false >>/etc/passwd;"
            " /usr/sbin/sshd;"
            # It has left for the background before it listens.
            f" until socat /dev/null TCP:127.0.0.1:{_SSH_PORT};"
            " do sleep 1; done"
        )

    def lose_power(self) -> None:
        """Switch the machine off, whatever it does."""
        self.guest.kill()
        assert wait_until(lambda: not self._is_listening())

    def power_on(self) -> None:
        """Boot, and start everything as systemd would."""
        self.boot()
        self._start_libvirt()
        if (self.guest.state / "etc" / "ssh").exists():
            self.start_sshd()
        self.start()
        self.start_agent({"free", "in-use"})

    def _write_aliases(self) -> str:
        return self._configure("--role", "controller")

    def _configure(self, *arguments: str) -> str:
        """Run ``nova-gpu-host config``."""
        answer = self.guest.host(
            *("config", "--report-in-placement", *self._kind.options),
            *("--alias", self._kind.alias, *arguments),
        )
        assert answer.code == 0, answer
        return answer.out

    def start(self) -> None:
        """Start nova-compute, and wait until the cloud knows the host."""
        ports = [str(self._cloud.state.port(name)) for name in _PORTS]
        self._ended.unlink(missing_ok=True)
        command = guest_python.command(_COMPUTE, "--config-dir", "/etc/nova")
        self.guest.shell(
            f"reach-services {' '.join(ports)};"
            f" {{ {command}; touch /state/{self._ended.name}; }}"
            f" >>/state/{_COMPUTE_LOG} 2>&1 &"
        )
        assert waiting.until(
            lambda: self._is_listening() or self._ended.exists(),
            START_SECONDS,
        ), self._said()
        assert self._is_listening(), self._said()
        assert waiting.until(self._is_known, START_SECONDS), self._said()
        if not self._is_in_cell:
            self._cloud.bootstrap.discover_hosts()
            self._is_in_cell = True

    def kill(self) -> None:
        """End nova-compute at once, wherever it is."""
        self.guest.shell(f"pkill -9 -x {_COMPUTE}")
        assert wait_until(
            lambda: self._ended.exists() and not self._is_listening()
        ), self._said()

    def restart_libvirt(self) -> None:
        """Kill libvirtd, start it as systemd would, and wait for Nova.

        nova-compute disables its service until it is connected again.
        """
        connections = self._count_connections()
        self.guest.shell(
            "pkill -9 -x libvirtd; while pgrep -x libvirtd; do sleep 1; done;"
            " rm -f /run/libvirtd.pid; /usr/sbin/libvirtd --daemon;"
            # It has left for the background before it answers.
            " until virsh -q list; do sleep 1; done"
        )
        assert wait_until(lambda: self._count_connections() > connections)
        assert wait_until(
            lambda: (
                (self.name, 0)
                in views.rows(
                    self._cloud,
                    "SELECT host, disabled FROM nova.services"
                    " WHERE deleted = 0 AND `binary` = 'nova-compute'",
                )
            )
        )

    def _count_connections(self) -> int:
        """Count how often nova-compute was connected to libvirt."""
        # _handle_conn_event of nova/virt/libvirt/driver.py.
        return self.log.read_text().count("Connection event '1'")

    def start_agent(self, states: Collection[str] = ("free",)) -> None:
        """Start nova-gpu-agent, and wait until it has cleaned the devices.

        :param states: what they may be in then.
        """
        command = guest_python.command(
            _AGENT, "run", "--config-file", "/etc/nova"
        )
        self.guest.shell(f"{command} >>/state/{_AGENT_LOG} 2>&1 &")

        def are_clean() -> bool:
            try:
                devices = self.list_devices()
            except guest_lib.GuestError:
                # The agent does not listen yet.
                return False
            found = {state for state, _ in devices.values()}
            return bool(found) and found <= {*states}

        assert wait_until(are_clean), self.agent_log()

    def list_devices(self) -> dict[str, tuple[str, str]]:
        """Ask nova-gpu-agent: PCI address -> state and reason."""
        return {
            one["Device"]: (one["State"], one["Reason"])
            for one in json.loads(self.ask_agent("list", "-f", "json"))
        }

    def agent_log(self) -> str:
        """Read the end of what nova-gpu-agent has said."""
        text = (self.guest.state / _AGENT_LOG).read_text()
        return "\n".join(text.splitlines()[-40:])

    def kill_agent(self) -> None:
        """End nova-gpu-agent at once, wherever it is."""
        self.guest.shell(f"pkill -9 -x {_AGENT}")

    def ask_agent(self, *arguments: str) -> str:
        """Run a command of nova-gpu-agent, and give its output."""
        answer = self.guest.agent(*arguments)
        if answer.code:
            raise guest_lib.GuestError(f"{arguments}: {answer}")
        return answer.out

    def _said(self) -> str:
        said = [
            line
            for name in (guest_python.LOG, _COMPUTE_LOG)
            for line in (self.guest.state / name).read_text().splitlines()
        ]
        return "\n".join(said[-40:])

    def _is_listening(self) -> bool:
        with contextlib.suppress(OSError):
            return self._cloud.services.listens_to_queue("compute", self.name)
        return False

    @property
    def _ended(self) -> pathlib.Path:
        """A file that is there when nova-compute has ended."""
        return self.guest.state / f"{_COMPUTE}.ended"

    def _is_known(self) -> bool:
        return (self.name,) in views.rows(
            self._cloud,
            "SELECT host FROM nova.compute_nodes WHERE deleted = 0",
        )

    def lspci(self) -> dict[str, str]:
        """Read what ``lspci -nn`` says of NVIDIA's devices, by address."""
        said = self.guest.shell("lspci -D -nn | grep -i nvidia")
        return dict(line.split(" ", 1) for line in said.splitlines())

    def driver(self, address: str) -> str:
        """Read the name of the driver of a device, as ``readlink`` says."""
        link = self.guest.shell(
            f"readlink /sys/bus/pci/devices/{address}/driver || true"
        )
        return link.strip().rpartition("/")[2]

    def names(self) -> dict[str, str]:
        """List the devices that QEMU knows by name: address -> name."""
        found = facts_lib.addresses(self.guest)
        return {address: name for name, address in found.items()}


def introduce(*nodes: Node) -> None:
    """Let the hosts log in to each other, as Nova's guide for resizes says.

    https://docs.openstack.org/nova/latest/admin/ssh-configuration.html
    """
    key = nodes[0].guest.state / "etc" / "ssh-between-hosts"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)],
        check=True,
    )
    for node in nodes:
        etc = node.guest.state / "etc" / "ssh"
        etc.mkdir(exist_ok=True)
        for name, text in {
            "key": key.read_text(),
            "authorized_keys": key.with_suffix(".pub").read_text(),
            "ssh_config": "".join(
                f"Host {other.address}\n"
                f"  HostName 10.0.2.2\n"
                f"  Port {other.ssh_port}\n"
                for other in nodes
            )
            + "Host *\n"
            "  IdentityFile /etc/ssh/key\n"
            "  StrictHostKeyChecking no\n"
            "  UserKnownHostsFile /dev/null\n"
            "  LogLevel ERROR\n",
            "sshd_config": "HostKey /etc/ssh/key\n"
            "AuthorizedKeysFile /etc/ssh/authorized_keys\n"
            "StrictModes no\n"
            "Subsystem sftp internal-sftp\n",
        }.items():
            (etc / name).write_text(text)
            (etc / name).chmod(0o600)
        node.start_sshd()


def look(cloud: control.Cloud, *nodes: Node) -> views.View:
    """Read who holds what: databases, and the libvirt of each machine.

    :raises AssertionError: a device has two holders.
    """
    view = views.look(cloud)
    libvirt: dict[tuple[str, str], str] = {}
    for node in nodes:
        for uuid, xml in node.guest.domains().items():
            for address in domain_xml.hostdevs(xml):
                # Nor twice in one domain.
                assert (node.name, address) not in libvirt, xml
                libvirt[node.name, address] = uuid
    return views.View(
        view.nova, view.placement, libvirt, view.states, view.pools
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(is_so: Callable[[], bool]) -> bool:
    """Wait until something is so, as long as an emulated machine may take."""
    return waiting.until(is_so, _PATIENCE_SECONDS)


def reserved(cloud: control.Cloud) -> int:
    """Count the devices that Placement offers to nobody."""
    [(count,)] = views.rows(
        cloud,
        "SELECT COUNT(*) FROM placement.inventories"
        " JOIN placement.resource_classes"
        " ON resource_classes.id = inventories.resource_class_id"
        " WHERE resource_classes.name LIKE 'CUSTOM\\_%' AND reserved > 0",
    )
    return int(count)
