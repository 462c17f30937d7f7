# SPDX-License-Identifier: Apache-2.0

"""gpu-boot-check.sh, with a cloud that is a script."""

import json
import os
import subprocess

import pytest

from tests.unit.devstack import sandbox

CLOUD = r"""
echo "openstack $*" >> "$SANDBOX/calls"
case "$*" in
    "flavor list "*) printf 'm1.tiny\ngpu-h100-4-cx7-2\n' ;;
    "flavor show "*) cat "$SANDBOX/flavor.json" ;;
    "image list "*) printf 'image-1\nimage-2\n' ;;
    "server create "*) exit $(cat "$SANDBOX/create") ;;
    "server show "*) echo 11111111-2222-3333-4444-555555555555 ;;
    "resource provider allocation show "*) cat "$SANDBOX/allocation.json" ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    machine = sandbox.Sandbox(tmp_path)
    machine.command("bin/openstack", CLOUD)
    (tmp_path / "create").write_text("0")
    (tmp_path / "flavor.json").write_text(
        json.dumps({"properties": {"pci_passthrough:alias": "h100:4,cx7:2"}})
    )
    return machine


def allocate(cloud, *resources):
    (cloud.path / "allocation.json").write_text(
        json.dumps([{"resources": each} for each in resources])
    )


def check(cloud):
    return subprocess.run(
        ["bash", sandbox.PLUGIN / "tools/gpu-boot-check.sh"],
        env={
            "PATH": f"{cloud.path}/bin:{os.environ['PATH']}",
            "SANDBOX": str(cloud.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


GPU = {"CUSTOM_GPU_H100": 1}
NIC = {"CUSTOM_PCI_15B3_1021": 1}
HOST = {"VCPU": 1, "MEMORY_MB": 512}


def test_a_server_with_all_its_devices_passes_and_is_deleted(cloud):
    allocate(cloud, HOST, GPU, GPU, GPU, GPU, NIC, NIC)
    done = check(cloud)
    assert done.returncode == 0, done.stdout
    assert "gpu-h100-4-cx7-2: booted with h100:4,cx7:2" in done.stdout
    assert cloud.calls[-1] == (
        "openstack server delete --wait gpu-boot-check-gpu-h100-4-cx7-2"
    )
    assert not [c for c in cloud.calls if "m1.tiny" in c]


def test_a_device_too_few_in_placement_fails(cloud):
    allocate(cloud, HOST, GPU, GPU, GPU, NIC, NIC)
    done = check(cloud)
    assert done.returncode == 1
    assert "Placement has allocated 5 devices" in done.stdout
    assert "server delete" in cloud.calls[-1]


def test_a_server_that_does_not_boot_fails_and_is_deleted(cloud):
    (cloud.path / "create").write_text("1")
    done = check(cloud)
    assert done.returncode == 1
    assert "the log of nova-scheduler says why" in done.stdout
    assert "server delete" in cloud.calls[-1]
