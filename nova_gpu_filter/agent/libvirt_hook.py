#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0

"""Hook of libvirt: asks nova-gpu-agent to activate a guest's partition.

``nova-gpu-agent fabric hook`` prints this file, for
``/etc/libvirt/hooks/qemu.d/nova-gpu-agent``. It needs Python's standard
library and the agent's socket, and runs where libvirtd does, which may be a
container. It never calls libvirt: that would wait for itself
(https://libvirt.org/hooks.html, "Calling libvirt functions from within a hook
script").

``prepare begin`` comes before libvirt binds or resets a device; another exit
code than 0 keeps the guest from starting. ``release end`` comes after its
devices were given back. A failure of ``reconnect`` would kill a guest that
runs, one of ``migrate`` or ``restore`` would cancel it: all others succeed.
"""

# Python 3.9 of RHEL 9 runs it, too.
from __future__ import annotations

import json
import os
import socket
import sys
import time
from xml.etree import ElementTree

SOCKET = os.environ.get(
    "NOVA_GPU_AGENT_SOCKET", "/run/nova-gpu-agent/agent.sock"
)
DEVICES = "/sys/bus/pci/devices"
NVIDIA = 0x10DE
KINDS = (("hostdev", "pci"), ("interface", "hostdev"))
CONNECT_SECONDS = {"prepare": 20.0, "release": 2.0}
"""How long a daemon may be away; systemd starts it again after 5 seconds."""
ANSWER_SECONDS = 240.0
"""Longer than [gpu_agent]fabric_deadline and an activation can be."""


def read_domain(xml: str) -> tuple[str | None, bool]:
    """Read the UUID of a domain, and whether a PCI device of it may be
    NVIDIA's: no other has to do with partitions.
    """
    root = ElementTree.fromstring(xml)  # noqa: S314 - libvirt wrote it
    concerned = any(
        (one.tag, one.get("type")) in KINDS
        and not all(map(is_of_others, one.iterfind("./source/address")))
        for one in root.iterfind("./devices/*")
    )
    return root.findtext("uuid"), concerned


def is_of_others(place: ElementTree.Element) -> bool:
    """Tell whether a device is surely none of NVIDIA's."""
    try:
        domain, bus, slot, function = (
            int(place.get(name, "0"), 0)
            for name in ("domain", "bus", "slot", "function")
        )
        address = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
        with open(f"{DEVICES}/{address}/vendor", encoding="ascii") as file:
            return int(file.read(), 16) != NVIDIA
    except (OSError, ValueError):
        return False


def connect(seconds: float) -> socket.socket:
    """Connect to the agent, which may be about to start."""
    until = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        # Before it connects: a daemon that hangs accepts nothing.
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(SOCKET)
        except OSError:
            connection.close()
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)
        else:
            return connection


def ask(operation: str, uuid: str | None, xml: str) -> str | None:
    """Ask the agent; returns why it refuses, or None."""
    request = {"command": "fabric-" + operation, "uuid": uuid, "xml": xml}
    try:
        connection = connect(CONNECT_SECONDS[operation])
        with connection, connection.makefile("rb") as file:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(file.readline())
    except OSError as error:
        return (
            f"{SOCKET}: {error.strerror or error}; is nova-gpu-agent running?"
        )
    except (ValueError, RecursionError):
        return f"{SOCKET}: nova-gpu-agent hung up"
    if not isinstance(answer, dict):
        return f"{SOCKET}: this is no answer of nova-gpu-agent"
    problem: str | None = answer.get("error")
    return problem


def escape(text: str) -> str:
    r"""Write what is not visible as in Python: ``\x1b``, ``\n``."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def main(arguments: list[str]) -> int:
    """Run the hook; returns the exit code.

    :param arguments: name of the domain, operation, its part, and more; the
        XML of the domain comes through standard input.
    """
    if arguments[1:3] not in (["prepare", "begin"], ["release", "end"]):
        return 0
    operation = arguments[1]
    problem: str | None
    try:
        xml = sys.stdin.read()
        uuid, is_concerned = read_domain(xml)
    except (ValueError, ElementTree.ParseError) as error:
        problem = f"no XML of a domain: {error}"
    else:
        if not is_concerned:
            return 0
        problem = ask(operation, uuid, xml)
    if problem is None:
        return 0
    line = escape(f"{arguments[0]}: {problem}")
    sys.stderr.write(f"nova-gpu-agent: {line}\n")
    # The guest is gone in any case; the agent finds that out by itself.
    return 1 if operation == "prepare" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
