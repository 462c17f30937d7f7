# SPDX-License-Identifier: Apache-2.0

"""The daemon with its options, its socket and its commands."""

import json
import os
import socket
import stat
import threading
import time

import pytest

from nova_gpu_filter.agent import daemon as daemon_lib
from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import errors
from nova_gpu_filter.cmd import agent as command
from nova_gpu_filter.fleet import reserving
from tests.functional.agent import worlds
from tests.functional.fleet import adapters
from tests.functional.placement import service
from tests.unit.agent import fakes

GPU, OTHER = worlds.GPUS


@pytest.fixture
def node(placement, tmp_path):
    """A node on which no agent has run yet, and its options."""
    placement.replace_providers(
        [
            service.Provider(
                worlds.HOST, None, {"VCPU": service.Inventory(8)}
            ),
            *(
                service.Provider(
                    f"{worlds.HOST}_{address.upper()}",
                    worlds.HOST,
                    {worlds.CLASS: service.Inventory(1)},
                )
                for address in worlds.GPUS
            ),
        ]
    )
    tree = worlds.sysfs_trees.k2_host(tmp_path / "host")
    for address in worlds.GPUS:
        tree.write(f"/sys/bus/pci/devices/{address}/reset", "")
    (tmp_path / "nova.conf").write_text(
        "[gpu_agent]\n"
        "devices = all\n"
        "interval = 3600\n"
        "settle_timeout = 0\n"
        f"ledger = {tmp_path}/ledger\n"
        f"socket = {tmp_path}/run/agent.sock\n"
        f"hooks = {tmp_path}/hooks\n"
    )
    return tree


class Running:
    """A daemon in a thread, and its commands."""

    def __init__(self, placement, path, tree, capsys):
        self.path, self.capsys = path, capsys
        self.libvirt = fakes.Libvirt(worlds.HOST)
        self.adapter = adapters.PlacementAdapter(placement)
        self.daemon = daemon_lib.Daemon(
            daemon_lib.read_options([str(path / "nova.conf")]),
            self.adapter,
            domains.Libvirt("qemu:///system", self.libvirt),
            str(tree.root),
            [str(path / "nova.conf")],
        )
        self.socket = f"{path}/run/agent.sock"
        self.thread = threading.Thread(target=self.daemon.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exc):
        self.daemon.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def run(self, *arguments):
        """Run a command: (exit code, output, errors)."""
        self.capsys.readouterr()
        code = command.main(["--socket", self.socket, *arguments])
        return code, *self.capsys.readouterr()

    def states(self):
        """Ask for the state of each device."""
        code, out, err = self.run("list", "-f", "json")
        assert (code, err) == (0, "")
        return {one["Device"]: one["State"] for one in json.loads(out)}

    def wait_for(self, wanted):
        """Wait for the states of the devices."""
        until = time.monotonic() + 60
        while True:
            try:
                if self.states() == wanted:
                    return
            except AssertionError:
                # The socket is made with the first pass.
                if not os.path.exists(self.socket):
                    time.sleep(0.1)
                elif time.monotonic() > until:
                    raise
            assert time.monotonic() < until, self.run("list")
            time.sleep(0.1)


@pytest.fixture
def running(node, placement, tmp_path, capsys):
    """A daemon that has cleaned both devices."""
    with Running(placement, tmp_path, node, capsys) as made:
        made.wait_for({GPU: "free", OTHER: "free"})
        yield made


def test_people_see_and_change_devices_over_the_socket(running):
    code, out, err = running.run(
        "quarantine", GPU, "--reason", "it hums", "-f", "json"
    )
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["State"] == "quarantined"
    assert shown["Reason"] == "it hums"
    running.wait_for({GPU: "quarantined", OTHER: "free"})
    code, out, _ = running.run(
        "list", "--state", "quarantined", "-f", "value", "-c", "Reason"
    )
    assert out == "it hums\n"
    assert running.run("release", "86:00.0", "-f", "json")[0] == 0
    assert running.run("release", GPU, "-f", "json")[0] == 0
    running.wait_for({GPU: "free", OTHER: "free"})
    code, out, _ = running.run("show", GPU, "-f", "json", "--limit", "4")
    assert [one["State"] for one in json.loads(out)] == [
        "free",
        "checked",
        "cleaning",
        "released",
    ]


def test_what_is_refused_is_one_line_and_exit_3(running):
    code, out, err = running.run("quarantine", "0000:99:00.0")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "0000:99:00.0" in err
    assert GPU in err


def test_the_socket_is_for_root_and_outlives_nonsense(running):
    assert stat.S_IMODE(os.stat(running.socket).st_mode) == 0o600
    for nonsense in (b"{\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b"[" * 99999):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(running.socket)
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert "error" in json.loads(connection.makefile("rb").readline())
    assert running.states() == {GPU: "free", OTHER: "free"}


def test_a_second_agent_with_the_same_ledger_does_not_start(
    running, placement, node, tmp_path, capsys
):
    with pytest.raises(errors.AgentError, match="another nova-gpu-agent"):
        Running(placement, tmp_path, node, capsys)


def test_an_agent_whose_tool_is_not_there_does_not_start(
    node, placement, tmp_path, capsys
):
    tool = tmp_path / "nvidia_gpu_tools.py"
    with open(tmp_path / "nova.conf", "a", encoding="utf-8") as file:
        file.write(f"gpu_admin_tools = {tool}\n")
    refused = pytest.raises(
        errors.AgentError, match=f"gpu_admin_tools = {tool}: .*chmod"
    )
    with refused:
        Running(placement, tmp_path, node, capsys)
    tool.write_text("#!/bin/sh\n")
    with refused:
        Running(placement, tmp_path, node, capsys)
    tool.chmod(0o755)
    with Running(placement, tmp_path, node, capsys) as made:
        made.wait_for({GPU: "free", OTHER: "free"})


def test_an_agent_that_clears_no_memory_says_so_at_its_start(
    node, placement, tmp_path, capsys, caplog
):
    def find_warnings():
        caplog.clear()
        with Running(placement, tmp_path, node, capsys) as made:
            made.wait_for({GPU: "free", OTHER: "free"})
        return [
            one for one in caplog.messages if "is not cleared between" in one
        ]

    [warning] = find_warnings()
    hooks = tmp_path / "hooks" / "before.d"
    assert str(hooks) in warning
    hooks.mkdir(mode=0o755, parents=True)
    hook = hooks / "clear"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    assert find_warnings() == []


def test_devices_stay_as_they_were_after_a_restart(
    node, placement, tmp_path, capsys
):
    with Running(placement, tmp_path, node, capsys) as first:
        first.wait_for({GPU: "free", OTHER: "free"})
        first.run("quarantine", GPU)
        first.wait_for({GPU: "quarantined", OTHER: "free"})
    with Running(placement, tmp_path, node, capsys) as second:
        second.wait_for({GPU: "quarantined", OTHER: "free"})
        uuid = service.provider_uuid(f"{worlds.HOST}_{GPU.upper()}")
        get = worlds.services.make_getter(second.adapter, "Placement", "1.31")
        until = time.monotonic() + 60
        # The ledger is first, Placement follows with the pass.
        while reserving.read_marked(get, reserving.Mark.QUARANTINED) != {uuid}:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_without_a_daemon_a_command_says_so_in_one_line(tmp_path, capsys):
    assert command.main(["--socket", f"{tmp_path}/none", "list"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("nova-gpu-agent: ")
    assert "is the service nova-gpu-agent running?" in err
    assert err.count("\n") == 1


def test_without_a_command_it_says_what_there_is(capsys):
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: nova-gpu-agent [-h]")
    assert "quarantine   Give a device to no server" in out
    assert "positional arguments" not in out


def test_a_state_that_does_not_exist_is_refused(capsys):
    assert command.main(["list", "--state", "idle"]) == 3
    err = capsys.readouterr().err
    assert "argument --state: invalid choice: 'idle'" in err
    assert err.count("\n") == 1


def test_an_interrupted_command_ends_without_a_traceback(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.socket_client, "ask", interrupt)
    assert command.main(["list"]) == 130


def test_a_wrong_option_is_one_line_that_names_it(tmp_path, capsys):
    path = tmp_path / "nova.conf"
    path.write_text("[gpu_agent]\ninterval = often\n")
    assert command.main(["run", "--config-file", str(path)]) == 3
    err = capsys.readouterr().err
    assert "interval" in err
    assert err.count("\n") == 1


def test_missing_credentials_are_one_line(tmp_path, capsys):
    path = tmp_path / "nova.conf"
    path.write_text(
        f"[gpu_agent]\nledger = {tmp_path}/ledger\nhypervisor_hostname = x\n"
    )
    assert command.main(["run", "--config-file", str(path)]) == 3
    err = capsys.readouterr().err
    assert "[placement]" in err
    assert err.count("\n") == 1


def test_a_nova_conf_that_is_not_there_is_one_line(tmp_path, capsys):
    assert command.main(["run", "--config-file", f"{tmp_path}/no.conf"]) == 3
    err = capsys.readouterr().err
    assert "no.conf" in err
    assert err.count("\n") == 1
