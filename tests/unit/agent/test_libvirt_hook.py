# SPDX-License-Identifier: Apache-2.0

"""The hook of libvirt, run as libvirt runs it."""

import io
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from nova_gpu_filter.agent import libvirt_hook
from tests.unit.agent import fakes

UUID = "0c2d7f4e-7d0a-4d39-9f7c-3f5cf1a5d0e1"


def xml(*addresses):
    return fakes.domain_xml(*addresses).replace(
        "<devices>", f"<uuid>{UUID}</uuid><devices>"
    )


def start_agent(directory, answer):
    """Start a daemon that gives an answer."""
    return fakes.Daemon(directory, json.dumps(answer).encode() + b"\n")


def run(path, text, *arguments):
    """Run the hook with Python's standard library alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", libvirt_hook.__file__, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={"NOVA_GPU_AGENT_SOCKET": path, "PATH": os.defpath},
    )
    assert done.stdout == "", "libvirt would take it for the XML of a domain"
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("answer", "operation", "code"),
    [
        ({"partition": 3}, "prepare", 0),
        ({"error": "FM says no"}, "prepare", 1),
        ({}, "release", 0),
        ({"error": "FM says no"}, "release", 0),
    ],
)
def test_a_start_fails_when_the_agent_says_so_and_an_end_never_does(
    tmp_path, answer, operation, code
):
    agent = start_agent(tmp_path, answer)
    part = {"prepare": "begin", "release": "end"}[operation]
    text = xml("0000:86:00.0")
    found, errors = run(agent.path, text, "vm", operation, part, "-")
    assert found == code
    wanted = (
        f"nova-gpu-agent: vm: {answer['error']}\n" if "error" in answer else ""
    )
    assert errors == wanted
    assert agent.asked == [
        {"command": f"fabric-{operation}", "uuid": UUID, "xml": text}
    ]


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("start", "begin"),
        ("started", "begin"),
        ("stopped", "end"),
        ("reconnect", "begin"),
        ("attach", "begin"),
        ("migrate", "begin"),
        ("restore", "begin"),
        ("prepare", "end"),
        ("release", "begin"),
        ("something", "new"),
    ],
)
def test_nothing_else_is_asked_or_fails(tmp_path, operation, part):
    agent = start_agent(tmp_path, {"error": "no"})
    text = xml("0000:86:00.0")
    assert run(agent.path, text, "vm", operation, part, "-") == (0, "")
    assert agent.asked == []
    assert run(agent.path, text) == (0, "")


def test_a_guest_without_devices_starts_without_an_agent(tmp_path):
    path = str(tmp_path / "none")
    assert run(path, xml(), "vm", "prepare", "begin", "-") == (0, "")


@pytest.mark.parametrize(
    ("vendors", "code"),
    [
        ({"0000:86:00.0": "0x15b3\n"}, 0),
        ({"0000:86:00.0": "0x1002\n", "0000:87:00.1": "0x15b3\n"}, 0),
        ({"0000:86:00.0": "0x15b3\n", "0000:87:00.1": "0x10de\n"}, 1),
        # It is not on the bus, or cannot be read.
        ({"0000:86:00.0": "0x15b3\n", "0000:87:00.1": None}, 1),
        ({"0000:86:00.0": "\n"}, 1),
    ],
)
def test_a_guest_with_devices_of_others_starts_without_an_agent(
    tmp_path, monkeypatch, capsys, vendors, code
):
    for address, vendor in vendors.items():
        place = tmp_path / "devices" / address
        place.mkdir(parents=True)
        if vendor is not None:
            (place / "vendor").write_text(vendor)
    monkeypatch.setattr(libvirt_hook, "DEVICES", str(tmp_path / "devices"))
    monkeypatch.setattr(libvirt_hook, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(libvirt_hook, "CONNECT_SECONDS", {"prepare": 0.0})
    monkeypatch.setattr(sys, "stdin", io.StringIO(xml(*vendors)))
    assert libvirt_hook.main(["vm", "prepare", "begin", "-"]) == code
    assert bool(capsys.readouterr().err) == bool(code)


def test_without_an_agent_no_guest_with_devices_starts(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(libvirt_hook, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(
        libvirt_hook, "CONNECT_SECONDS", {"prepare": 0.3, "release": 0.0}
    )
    for operation, part, code in (
        ("prepare", "begin", 1),
        ("release", "end", 0),
    ):
        with (tmp_path / "xml").open("w+") as file:
            file.write(xml("0000:86:00.0"))
            file.seek(0)
            monkeypatch.setattr(sys, "stdin", file)
            arguments = ["vm", operation, part, "-"]
            assert libvirt_hook.main(arguments) == code
        assert "is nova-gpu-agent running?" in capsys.readouterr().err


def test_an_agent_that_accepts_nothing_is_given_up(
    tmp_path, monkeypatch, capsys
):
    path = str(tmp_path / "agent.sock")
    monkeypatch.setattr(libvirt_hook, "SOCKET", path)
    monkeypatch.setattr(libvirt_hook, "CONNECT_SECONDS", {"prepare": 0.3})
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as first,
    ):
        server.bind(path)
        server.listen(0)
        first.connect(path)
        monkeypatch.setattr(sys, "stdin", io.StringIO(xml("0000:86:00.0")))
        assert libvirt_hook.main(["vm", "prepare", "begin", "-"]) == 1
    assert "is nova-gpu-agent running?" in capsys.readouterr().err


@pytest.mark.parametrize("operation", ["prepare", "release"])
def test_an_empty_xml_is_one_line(operation):
    part = {"prepare": "begin", "release": "end"}[operation]
    code, errors = run("/none", "", "vm", operation, part, "-")
    assert code == (operation == "prepare")
    assert errors.startswith("nova-gpu-agent: vm: no XML of a domain: ")
    assert errors.count("\n") == 1


def test_an_agent_that_starts_in_time_is_waited_for(tmp_path):
    made = []
    threading.Timer(
        0.5, lambda: made.append(start_agent(tmp_path, {"partition": 1}))
    ).start()
    path = str(tmp_path / "agent.sock")
    text = xml("0000:86:00.0")
    assert run(path, text, "vm", "prepare", "begin", "-") == (0, "")


def test_what_is_no_xml_does_not_start(tmp_path):
    code, errors = run("/none", "<domain", "vm", "prepare", "begin", "-")
    assert code == 1
    assert "no XML of a domain" in errors
