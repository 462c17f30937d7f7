# SPDX-License-Identifier: Apache-2.0

"""Fabric partitions need somebody who activates them."""

import os
import subprocess

import pytest

from nova_gpu_filter.host.checks import conf_agent
from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import tree as tree_lib
from tests import sysfs_trees


@pytest.mark.parametrize(
    ("config", "address", "has_hook", "severity"),
    [
        (None, "", False, None),
        ("FABRIC_MODE=0\n", "127.0.0.1", True, None),
        ("FABRIC_MODE=1\n", "", False, Severity.WARNING),
        ("FABRIC_MODE=1\n", "", True, Severity.WARNING),
        ("FABRIC_MODE=1\n", "127.0.0.1", False, Severity.WARNING),
        ("FABRIC_MODE=1\n", "127.0.0.1", True, Severity.OK),
        ("FABRIC_MODE=2\n", "/run/fm.sock", True, Severity.OK),
    ],
)
def test_a_shared_fabric_needs_agent_and_hook(
    tmp_path, config, address, has_hook, severity
):
    files = sysfs_trees.k2_host(tmp_path / "host")
    if config is not None:
        files.write(fabric_manager.CONFIG, config)
    if has_hook:
        files.write(fabric_manager.HOOK, "")
    (tmp_path / "nova.conf").write_text(
        f"[gpu_agent]\nfabric_manager = {address}\n"
    )
    options = conf_agent.read_options(str(tmp_path / "nova.conf"))
    found = list(
        fabric_manager.check_partitions(
            options, tree_lib.Tree(str(files.root))
        )
    )
    assert [one.severity for one in found] == [severity][: bool(severity)]
    for one in found:
        assert bool(one.cures) == (severity is Severity.WARNING)
        for cure in one.cures:
            subprocess.run(["sh", "-n", "-c", cure], check=True)


def test_the_cures_install_the_hook_where_libvirt_has_none(
    tmp_path, monkeypatch
):
    """The commands as they are, below another root."""
    programs = tmp_path / "bin"
    for name in ("nova-gpu-agent", "systemctl"):
        program = programs / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\necho "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    files = sysfs_trees.k2_host(tmp_path / "host")
    files.write(fabric_manager.CONFIG, "FABRIC_MODE=1\n")
    files.mkdir("/etc/libvirt/hooks")
    (tmp_path / "nova.conf").write_text("")
    options = conf_agent.read_options(str(tmp_path / "nova.conf"))
    (found,) = fabric_manager.check_partitions(
        options, tree_lib.Tree(str(files.root))
    )
    hook = files.path(fabric_manager.HOOK)
    for cure in found.cures:
        command = cure.replace("/etc/libvirt", str(files.path("/etc/libvirt")))
        subprocess.run(["sh", "-c", command], check=True)
    assert hook.read_text() == "fabric hook\n"
    assert os.access(hook, os.X_OK)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, False),
        ("FABRIC_MODE=1\n", False),
        ("FABRIC_MODE_RESTART=0\n", False),
        ("#FABRIC_MODE_RESTART=1\n", False),
        ("FABRIC_MODE=1\n FABRIC_MODE_RESTART = 1\n", True),
    ],
)
def test_whether_it_waits_for_the_list_of_partitions(text, expected):
    assert fabric_manager.read_restarts(text) is expected
