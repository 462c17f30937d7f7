# SPDX-License-Identifier: Apache-2.0

"""The agent's part for the fabric, made of its options."""

import json
import logging
import os
import time
import types
import uuid

import pytest

from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger
from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import fmpm
from nova_gpu_filter.agent.fabric import service
from tests import sysfs_trees
from tests.unit.agent import fakes
from tests.unit.agent.fabric import managers

GPU = "0000:85:00.0"
OTHERS_CARD = "0000:01:00.0"


@pytest.mark.parametrize("path", ["fmpm", "/none/fmpm", "libnone.so.1"])
def test_neither_library_nor_fmpm_is_one_line_with_the_cure(
    monkeypatch, tmp_path, path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fabric_manager.NoLibrary) as caught:
        service.connect(path, "127.0.0.1")
    text = str(caught.value)
    assert text.startswith(f"[gpu_agent]fabric_library = {path}: ")
    assert "install" in text
    assert "unset [gpu_agent]fabric_manager" in text
    assert "\n" not in text


@pytest.mark.parametrize("path", ["fmpm", "libnone.so.1"])
def test_fmpm_in_the_path_is_used(monkeypatch, tmp_path, path):
    program = tmp_path / "fmpm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.defpath)))
    assert isinstance(service.connect(path, "127.0.0.1"), fmpm.Fmpm)


class Host:
    """A compute node whose Fabric Manager has one partition of one GPU."""

    def __init__(self, path):
        self.path = path
        self.manager = managers.Manager(path / "fm", {1: (2,)})
        self.tree = sysfs_trees.k2_host(path / "host")
        self.tree.write(
            f"/sys/bus/pci/devices/{OTHERS_CARD}/vendor", "0x15b3\n"
        )
        self.set_tag("fabric:1/1")
        self.options = types.SimpleNamespace(
            fabric_manager=self.manager.path,
            fabric_library=managers.build(),
            fabric_inventory="",
            fabric_deadline=0.0,
            fabric_interval=60.0,
            interval=60,
        )

    def set_tag(self, *tags):
        """Write nova.conf with a GPU and its tag, or with none."""
        specs = [
            json.dumps({"address": GPU, "gpu_links": tag}) for tag in tags
        ]
        (self.path / "nova.conf").write_text(
            "[pci]\n" + "".join(f"device_spec = {one}\n" for one in specs)
        )

    def make(self):
        """Make the agent's part."""
        return service.Service(
            self.options,
            [str(self.path / "nova.conf")],
            ledger.Ledger(str(self.path / "ledger")),
            domains.Libvirt("qemu:///system", fakes.Libvirt()),
            lambda: None,
            str(self.tree.root),
        )


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def prepare(made, *addresses):
    request = {
        "command": "fabric-prepare",
        "uuid": str(uuid.uuid4()),
        "xml": fakes.domain_xml(*addresses),
    }
    return made.answer(request, None)


def test_tags_that_cannot_be_read_keep_only_guests_of_nvidia_from_starting(
    host, caplog
):
    host.set_tag("fabric:x")
    made = host.make()
    made.start()
    made.stop()
    [line] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert f"nova.conf: {GPU}" in line.getMessage()
    assert prepare(made, OTHERS_CARD) == {"partition": None}
    with pytest.raises(errors.AgentError, match=rf"nova\.conf: {GPU}"):
        prepare(made, GPU, OTHERS_CARD)
    host.set_tag("fabric:1/1")
    assert prepare(made, GPU, OTHERS_CARD) == {"partition": 1}
    assert host.manager.active() == {1}


def test_an_inventory_that_is_gone_keeps_no_other_guest_from_starting(host):
    host.options.fabric_inventory = f"{host.path}/none.json"
    made = host.make()
    assert prepare(made, OTHERS_CARD) == {"partition": None}
    with pytest.raises(errors.AgentError, match="fabric_inventory"):
        prepare(made, GPU)


def test_a_host_of_which_no_partition_is_known_is_told_how_to_say_them(
    host, caplog
):
    host.set_tag()
    made = host.make()
    made.start()
    made.stop()
    [line] = [one for one in caplog.records if "gpu_links" in one.message]
    assert "No fabric partition is known" in line.message
    assert prepare(made, GPU) == {"partition": None}


def test_what_nobody_has_expected_is_logged_once(host, caplog):
    host.options.fabric_interval = 0.01
    made = host.make()
    passes = []

    def fail():
        passes.append(None)
        raise RuntimeError("disk full")

    made.reconcile_running = fail
    made.start()
    until = time.monotonic() + 60
    while len(passes) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    made.stop()
    [line] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "disk full" in line.exc_text


def test_what_is_no_command_is_refused(host):
    with pytest.raises(errors.AgentError, match="no command 'fabric-x'"):
        host.make().answer({"command": "fabric-x"}, None)
