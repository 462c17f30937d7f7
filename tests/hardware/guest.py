# SPDX-License-Identifier: Apache-2.0

"""Boots a machine and asks it things; /etc and /boot outlive a reboot."""

import ctypes
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
from typing import Any

from tests.hardware import parts as parts_lib
from tests.hardware import qemu
from tests.hardware.emulated_machines import Machine

# Ten times what they take on a quiet machine.
BOOT_SECONDS = 300
ANSWER_SECONDS = 600
_CONSOLE_LINES = 30


class GuestError(AssertionError):
    """A machine does not do what it must; the message has its console."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a command."""

    code: int
    out: str
    err: str


class Guest:
    """One machine; ``machine`` may be replaced between two boots."""

    def __init__(self, machine: Machine, parts: parts_lib.Parts) -> None:
        self.machine = machine
        self.release = parts.release
        self._parts = parts
        # Not a directory of pytest's: its paths may be too long for a socket.
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="machine-"))
        self.state = self._directory / "state"
        self._console = self._directory / "console"
        self._monitor = self._directory / "monitor"
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._rest = b""
        self._install()

    def _install(self) -> None:
        etc = self.state / "etc"
        files = {
            "hostname": f"{self.machine.name}\n",
            "passwd": "root:x:0:0:root:/root:/bin/sh\n",
            "group": "root:x:0:\n",
            "default/grub": f'GRUB_CMDLINE_LINUX="{self.machine.cmdline}"\n',
            "initramfs-tools/modules": "",
            "modules-load.d/empty.conf": "",
            "udev/rules.d/README": "",
            "modprobe.d/README": "",
            **self.machine.files,
        }
        for name, text in files.items():
            path = etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        boot = self.state / "boot"
        boot.mkdir()
        (boot / "cmdline").write_text(self.machine.cmdline)
        busybox = str(self._parts.busybox)
        subprocess.run(
            [
                *(busybox, "sh", str(parts_lib.SOURCES / "pack.sh"), busybox),
                *(str(etc), str(boot / f"initrd.img-{self.release}")),
            ],
            check=True,
        )

    @property
    def is_on(self) -> bool:
        """Whether it was booted, and not switched off since."""
        return self._process is not None

    def boot(self) -> None:
        """Start the machine, and wait until it answers."""
        initrd = self._directory / "initrd"
        packed = self.state / "boot" / f"initrd.img-{self.release}"
        with open(initrd, "wb") as file:
            for path in (self._parts.initrd, packed):
                file.write(path.read_bytes())
        channel = self._directory / "channel"
        channel.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(channel))
            listener.listen(1)
            listener.settimeout(BOOT_SECONDS)
            with open(self._directory / "qemu", "wb") as said:
                self._process = subprocess.Popen(
                    self._command(initrd, channel),
                    env={
                        **os.environ,
                        **qemu.environment(
                            self.machine, str(self._parts.library)
                        ),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    preexec_fn=_end_with_parent,
                )
            try:
                self._socket, _ = listener.accept()
            except TimeoutError:
                raise self._error("QEMU does not start") from None
        self._rest = b""
        self._read(BOOT_SECONDS)

    def _command(
        self, initrd: pathlib.Path, channel: pathlib.Path
    ) -> list[str]:
        return qemu.arguments(
            self.machine,
            kernel=str(self._parts.kernel),
            initrd=str(initrd),
            cmdline=(self.state / "boot" / "cmdline").read_text().strip(),
            shares=(
                *parts_lib.shares(self._parts),
                qemu.Share("state", str(self.state), writable=True),
            ),
            channel=str(channel),
            monitor=str(self._monitor),
            console=str(self._console),
        )

    def _error(self, text: str) -> GuestError:
        lines = []
        for name in ("qemu", "console"):
            path = self._directory / name
            if path.exists():
                lines += path.read_text(errors="replace").splitlines()
        shown = "\n".join(lines[-_CONSOLE_LINES:])
        return GuestError(f"{self.machine.name}: {text}\n{shown}")

    def _read(self, seconds: int) -> dict[str, Any]:
        assert self._socket is not None
        self._socket.settimeout(seconds)
        while b"\n" not in self._rest:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise self._error(
                    f"no answer within {seconds} seconds"
                ) from None
            if not data:
                raise self._error("QEMU has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, **question: Any) -> Answer:
        assert self._socket is not None, f"{self.machine.name} is off"
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        answer = self._read(ANSWER_SECONDS)
        return Answer(**answer)

    def host(self, *arguments: str) -> Answer:
        """Run nova-gpu-host."""
        return self._ask(host=list(arguments))

    def agent(self, *arguments: str) -> Answer:
        """Run a command of nova-gpu-agent."""
        return self._ask(agent=list(arguments))

    def domains(self) -> dict[str, str]:
        """Read the XML of libvirt's domains that run, by their UUIDs."""
        answer = self._ask(domains=True)
        if answer.code:
            raise self._error(answer.err)
        described: dict[str, str] = json.loads(answer.out)
        return described

    def shell(self, command: str) -> str:
        """Run a shell command, which must succeed, and give its output."""
        answer = self._ask(shell=command)
        if answer.code:
            raise self._error(
                f"'{command}' exits with {answer.code}:"
                f" {answer.out}{answer.err}"
            )
        return answer.out

    def command_qemu(self, command: str) -> str:
        """Run a command of QEMU's monitor, and give what it says."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(ANSWER_SECONDS)
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as lines:
                # https://www.qemu.org/docs/master/interop/qmp-spec.html
                for question in (
                    {"execute": "qmp_capabilities"},
                    {
                        "execute": "human-monitor-command",
                        "arguments": {"command-line": command},
                    },
                ):
                    lines.write(json.dumps(question) + "\n")
                    lines.flush()
                    said: dict[str, Any] = {}
                    # Its greeting and events come in between.
                    while "return" not in said and "error" not in said:
                        said = json.loads(lines.readline())
        if "error" in said:
            raise self._error(f"'{command}' in QEMU's monitor: {said}")
        return str(said["return"])

    def pull(self, name: str) -> None:
        """Ask for a device to leave the bus, as whoever opens its slot."""
        self.command_qemu(f"device_del {name}")

    def plug(self, name: str) -> None:
        """Put a device back where it was."""
        [device] = (one for one in self.machine.devices if one.name == name)
        place = qemu.name_place(self.machine, device)
        said = self.command_qemu(f"device_add {place}")
        if said:
            raise self._error(said)

    def off(self) -> None:
        """Shut the machine down."""
        if self._socket is not None:
            self._socket.sendall(b'{"end": true}\n')
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(BOOT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise self._error("does not shut down") from None
            self._process = None

    def kill(self) -> None:
        """Pull the plug."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reboot(self) -> None:
        """Shut down, and boot with what is now in /boot."""
        self.off()
        self.boot()

    def remove(self) -> None:
        """Pull the plug, and throw the machine away."""
        self.kill()
        shutil.rmtree(self._directory)


def _end_with_parent() -> None:
    # PR_SET_PDEATHSIG of include/uapi/linux/prctl.h.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
