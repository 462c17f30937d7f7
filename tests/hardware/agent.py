# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine: does what the tests ask over a serial port.

A question and an answer are one line of JSON each. ``{"host": [...]}`` runs
nova-gpu-host and ``{"agent": [...]}`` a command of nova-gpu-agent in this
process, which saves a start of Python; ``{"domains": true}`` gives the XML of
libvirt's domains that run, which takes virsh a second; ``{"shell": "..."}``
runs a command; ``{"end": true}`` ends this program, and so the machine.
"""

from collections.abc import Callable
import contextlib
import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
import time
import traceback

from nova_gpu_filter.cmd import host as commands
from nova_gpu_filter.cmd.host import app

PORT = "/dev/vport0p1"
BOOTED = "/run/booted"
"""A file that process 1 makes when the drivers are loaded."""
SHELL_SECONDS = 540
_DEBIAN = "/usr/lib/python3/dist-packages"


def _run(
    main: Callable[[list[str]], int], arguments: list[str]
) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def run_host(arguments: list[str]) -> tuple[int, str, str]:
    """Run nova-gpu-host."""
    return _run(app.main, arguments)


def _run_agent(arguments: list[str]) -> tuple[int, str, str]:
    # Few machines run an agent; the others boot without it.
    command = importlib.import_module("nova_gpu_filter.cmd.agent")
    return _run(command.main, arguments)


def _describe_domains() -> tuple[int, str, str]:
    # Only few machines have a libvirt that runs, in Debian's place.
    if _DEBIAN not in sys.path:
        sys.path.append(_DEBIAN)
    libvirt = importlib.import_module("libvirt")
    described = {}
    with contextlib.closing(libvirt.open("qemu:///system")) as connection:
        for domain in connection.listAllDomains(
            libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        ):
            try:
                described[domain.UUIDString()] = domain.XMLDesc()
            except libvirt.libvirtError as exc:
                # It has ended meanwhile.
                if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
    return 0, json.dumps(described), ""


def _shell(command: str) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SHELL_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        return 124, str(error.stdout), str(error.stderr)
    return done.returncode, done.stdout, done.stderr


def _answer(question: dict) -> tuple[int, str, str]:
    try:
        if "host" in question:
            return run_host(question["host"])
        if "agent" in question:
            return _run_agent(question["agent"])
        if "domains" in question:
            return _describe_domains()
        return _shell(question["shell"])
    except Exception:
        return -1, "", traceback.format_exc()


def _warm() -> None:
    """Import all that the first command would import."""
    for module in pkgutil.iter_modules(commands.__path__):
        if module.name != "__main__":
            importlib.import_module(f"{commands.__name__}.{module.name}")
    run_host(["check", "--help"])


def main() -> None:
    """Answer until the end is asked for."""
    _warm()
    while not os.path.exists(BOOTED):
        time.sleep(0.1)
    descriptor = os.open(PORT, os.O_RDWR)
    with open(descriptor, "r+b", buffering=0) as port:
        _say(port, {"ready": os.uname().release})
        rest = b""
        while True:
            while b"\n" not in rest:
                rest += port.read(65536) or b""
            line, _, rest = rest.partition(b"\n")
            question = json.loads(line)
            if "end" in question:
                return
            code, out, err = _answer(question)
            _say(port, {"code": code, "out": out, "err": err})


def _say(port: io.RawIOBase, answer: dict) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[port.write(data) or 0 :]


if __name__ == "__main__":
    main()
