# SPDX-License-Identifier: Apache-2.0

"""Devices of one-time use need somebody who gives them back."""

import configparser
from importlib import metadata
import os
import pathlib
import re
import shlex
import socket

import pytest

from nova_gpu_filter.cmd import agent
from nova_gpu_filter.conf import gpu_agent
from nova_gpu_filter.host.checks import conf_agent
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.nova_rules import pci_options

ONCE = '{"vendor_id": "10de", "one_time_use": "true"}'


def _check(*specs, is_running=False, **more):
    options = pci_options.PciOptions("nova.conf", specs, (), True)
    ours = {"fabric_manager": "", "gpu_admin_tools": "/tool", "hooks": ""}
    agent_conf = conf_agent.AgentOptions("nova.conf", **{**ours, **more})
    return list(conf_agent.check(options, agent_conf, is_running))


@pytest.mark.parametrize(
    ("specs", "is_running", "severity"),
    [
        ((ONCE,), False, Severity.WARNING),
        ((ONCE,), True, Severity.OK),
        (('{"vendor_id": "10de"}', f"[{ONCE}]"), False, Severity.WARNING),
        (('{"vendor_id": "10de", "one_time_use": false}',), False, None),
        (('{"vendor_id": "10de"}',), False, None),
        (("no JSON",), False, None),
        ((), False, None),
    ],
)
def test_one_finding_where_a_spec_has_it(specs, is_running, severity):
    found = _check(*specs, is_running=is_running)
    assert [one.severity for one in found] == [severity][: bool(severity)]


def test_the_cure_starts_the_agent(capsys):
    [found] = _check(ONCE)
    install, write, enable = map(shlex.split, found.cures)
    extra = re.fullmatch(r"nova-gpu-filter\[(.*)\]", install[-1])[1]
    ours = metadata.metadata("nova-gpu-filter")
    assert extra in ours.get_all("Provides-Extra")

    *command, greater, path = write
    assert (command.pop(0), greater) == ("nova-gpu-agent", ">")
    assert path == f"/etc/systemd/system/{enable[-1]}.service"
    assert agent.main(command) == 0
    unit = configparser.ConfigParser(strict=False)
    unit.read_string(capsys.readouterr().out)
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert pathlib.Path(program).name == "nova-gpu-agent"
    assert os.access(program, os.X_OK)
    assert arguments == ["run", "--config-file", "/etc/nova/nova.conf"]
    assert unit["Install"]["WantedBy"]


def test_a_socket_counts_when_a_process_listens_on_it(tmp_path):
    path = str(tmp_path / "agent.sock")
    assert not conf_agent.is_listening(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not conf_agent.is_listening(path)
        server.listen()
        assert conf_agent.is_listening(path)
    assert not conf_agent.is_listening(path)


def test_the_socket_is_that_of_the_option():
    [option] = [o for o in gpu_agent.gpu_agent_opts if o.name == "socket"]
    assert option.default == conf_agent.SOCKET


def test_an_agent_that_clears_no_memory_is_found(tmp_path):
    def find(**more):
        more = {"gpu_admin_tools": "", "hooks": str(tmp_path), **more}
        return _check(ONCE, **more)

    assert len(find()) == 1
    _, found = find(is_running=True)
    assert found.severity is Severity.WARNING
    assert "nothing clears their memory" in found.summary
    assert f"{tmp_path}/before.d" in found.cures[1]
    assert len(find(is_running=True, gpu_admin_tools="/tool")) == 1
    for name in ("before.d", "after.d"):
        hook = tmp_path / name / "clear"
        hook.parent.mkdir()
        hook.write_text("#!/bin/sh\n")
        assert len(find(is_running=True)) == 2
        hook.chmod(0o755)
        assert len(find(is_running=True)) == 1
        hook.unlink()
    # Each cleaning says what is wrong with it.
    (tmp_path / "file").write_text("")
    assert len(find(is_running=True, hooks=str(tmp_path / "file"))) == 1


def test_options_of_the_agent_are_read(tmp_path):
    path = tmp_path / "nova.conf"
    for text, hooks, tool in (
        ("", gpu_agent.HOOKS, ""),
        ("[gpu_agent]\nhooks=/h\ngpu_admin_tools=/t\n", "/h", "/t"),
    ):
        path.write_text(text)
        found = conf_agent.read_options(str(path))
        assert (found.hooks, found.gpu_admin_tools) == (hooks, tool)
