# SPDX-License-Identifier: Apache-2.0

"""The daemon, the hook of libvirt and a Fabric Manager, together."""

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.cmd import agent as command
from tests.functional.agent import test_daemon
from tests.functional.agent import worlds
from tests.functional.placement import service
from tests.unit.agent import fakes
from tests.unit.agent.fabric import managers

GPU, OTHER = worlds.GPUS
node = test_daemon.node
TABLE = {0: (1, 2), 1: (2,), 2: (1,)}


@pytest.fixture
def running(node, placement, tmp_path, capsys):
    """A daemon that manages partitions, and has cleaned both devices."""
    manager = managers.Manager(tmp_path / "fm", TABLE)
    with (tmp_path / "nova.conf").open("a") as file:
        file.write(
            f"fabric_manager = {manager.path}\n"
            f"fabric_library = {managers.build()}\n"
            "fabric_deadline = 0.5\n"
            "fabric_interval = 0.2\n"
            "[pci]\n"
        )
        # Module Id 2 is the first on the bus.
        for address, tag in (
            (GPU, "fabric:0/2,fabric:1/1"),
            (OTHER, "fabric:0/2,fabric:2/1"),
        ):
            spec = {"address": address, "gpu_links": tag}
            file.write(f"device_spec = {json.dumps(spec)}\n")
    with test_daemon.Running(placement, tmp_path, node, capsys) as made:
        made.manager = manager
        made.hook = tmp_path / "hook"
        made.wait_for({GPU: "free", OTHER: "free"})
        code, text, _ = made.run("fabric", "hook")
        assert code == 0
        made.hook.write_text(text)
        yield made


def call_hook(running, domain, operation, part):
    """Call the hook as libvirt does: (exit code, errors)."""
    text = domain.xml.replace(
        "<devices>", f"<uuid>{domain.uuid}</uuid><devices>"
    )
    done = subprocess.run(
        [sys.executable, str(running.hook), "vm", operation, part, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={"NOVA_GPU_AGENT_SOCKET": running.socket, "PATH": os.defpath},
    )
    return done.returncode, done.stderr


def start(running, *addresses):
    """Start a guest, as libvirt does."""
    domain = fakes.Domain(*addresses)
    code, errors = call_hook(running, domain, "prepare", "begin")
    if code == 0:
        running.libvirt.domains.append(domain)
        running.daemon.wake()
    return domain, code, errors


def ask_placement(running, path):
    """Ask Placement by the way that the daemon asks, one at a time."""
    answer = running.adapter.get(
        path, raise_exc=False, headers={}, microversion="1.31"
    )
    assert answer.status_code == 200
    return answer.json()


def wait(condition):
    """Wait for something that happens soon."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_guest_has_its_partition_from_start_to_end(running):
    domain, code, _ = start(running, GPU)
    assert code == 0
    assert running.manager.active() == {1}
    code, out, _ = running.run("fabric", "list", "--active", "-f", "json")
    assert code == 0
    [row] = json.loads(out)
    assert (row["Partition"], row["Server"]) == (1, domain.uuid)
    assert (row["Active"], row["Devices"]) == (True, GPU)
    assert row["Module Ids"] == "2"
    running.libvirt.domains.remove(domain)
    assert call_hook(running, domain, "release", "end")[0] == 0
    assert running.manager.active() == set()
    assert running.run("fabric", "audit", "-f", "value") == (0, "", "")


def test_a_partition_that_fails_is_quarantined_and_the_other_goes_on(
    running,
):
    running.manager.inject("fail fmActivateFabricPartition -10 1")
    domain, code, errors = start(running, GPU)
    assert code == 1
    assert "FM_ST_NVLINK_ERROR (-10)" in errors
    call_hook(running, domain, "release", "end")
    running.wait_for({GPU: "quarantined", OTHER: "free"})
    code, out, _ = running.run("show", GPU, "-f", "json", "--limit", "1")
    assert "FM_ST_NVLINK_ERROR" in json.loads(out)[0]["Reason"]
    path = f"/allocation_candidates?resources={worlds.CLASS}:1"
    # The ledger says it first.
    wait(lambda: len(ask_placement(running, path)["allocation_requests"]) == 1)
    assert start(running, OTHER)[1] == 0
    assert running.manager.active() == {2}


def test_restarts_and_lost_hooks_are_made_good(running):
    first, _, _ = start(running, GPU)
    second, _, _ = start(running, OTHER)
    running.manager.restart()
    wait(lambda: running.manager.active() == {1, 2})
    running.libvirt.domains.remove(first)
    running.daemon.wake()
    wait(lambda: running.manager.active() == {2})
    running.libvirt.domains.remove(second)
    running.daemon.wake()
    wait(lambda: running.manager.active() == set())


def test_what_does_not_agree_is_found_and_is_an_exit_code(running):
    running.manager.inject("partition 9 1 9")
    code, out, _ = running.run("fabric", "audit", "-f", "json")
    assert code == 2
    assert [(one["Problem"], one["Partition"]) for one in json.loads(out)] == [
        ("leaked", 9)
    ]


def test_the_host_has_traits_of_version_and_problems(running, node, caplog):
    caplog.set_level(logging.INFO)
    version, problem = (
        "CUSTOM_NVIDIA_FM_580_95_05",
        "CUSTOM_GPU_FABRIC_PROBLEM",
    )
    path = f"/resource_providers/{service.provider_uuid(worlds.HOST)}/traits"
    node.write(
        "/var/lib/dpkg/status",
        "Package: nvidia-fabricmanager-580\n"
        "Status: install ok installed\n"
        "Version: 580.95.05-0ubuntu1\n",
    )
    running.daemon.wake()
    wait(lambda: f"Traits of this host: {version}" in caplog.text)
    assert ask_placement(running, path)["traits"] == [version]
    running.manager.inject("partition 9 1 9")
    running.daemon.wake()
    wait(lambda: f"{problem}, {version}" in caplog.text)
    assert set(ask_placement(running, path)["traits"]) == {version, problem}


def test_traits_that_cannot_be_known_are_told_once(
    running, caplog, monkeypatch
):
    passes = []
    name_traits = running.daemon.fabric.name_traits

    def count(consumers):
        passes.append(consumers)
        return name_traits(consumers)

    def make_passes():
        # What the first one has logged is there with the second.
        for number in range(len(passes) + 1, len(passes) + 3):
            running.daemon.wake()
            wait(lambda number=number: len(passes) >= number)

    monkeypatch.setattr(running.daemon.fabric, "name_traits", count)
    running.manager.set("away", 1)
    make_passes()
    assert "Traits of this host: Fabric Manager" in caplog.text
    # That the connection is lost, then that there is none; which of them the
    # daemon has met by itself meanwhile is chance.
    for _ in range(10):
        caplog.clear()
        make_passes()
        if "Traits of this host" not in caplog.text:
            return
    pytest.fail("It is told each time")


def test_libvirt_that_waits_for_the_hook_keeps_nobody_from_starting(running):
    # It holds the lock of the domain: whoever asks it waits.
    running.libvirt.is_away = True
    running.daemon.wake()
    _domain, code, errors = start(running, GPU)
    assert (code, errors) == (0, "")
    assert running.manager.active() == {1}
    running.libvirt.is_away = False


def test_without_fabric_manager_the_hook_keeps_nobody_from_starting(
    node, placement, tmp_path, capsys, caplog
):
    with test_daemon.Running(placement, tmp_path, node, capsys) as made:
        made.wait_for({GPU: "free", OTHER: "free"})
        made.hook = libvirt_hook.__file__
        domain, code, errors = start(made, GPU)
        assert (code, errors) == (0, "")
        assert call_hook(made, domain, "release", "end") == (0, "")
        code, out, errors = made.run("fabric", "audit")
        assert (code, out) == (3, "")
        assert "[gpu_agent]fabric_manager is empty" in errors
    assert "remove the hook" in caplog.text


def test_fabric_without_a_word_is_one_line(capsys):
    assert command.main(["fabric"]) == 3
    assert "list, audit, hook" in capsys.readouterr().err
