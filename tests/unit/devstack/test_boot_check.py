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
    "image list "*) cat "$SANDBOX/images" ;;
    "server create "*) cat "$SANDBOX/create" ;;
    "server list "*) cat "$SANDBOX/left" ;;
    "server show 11111111-"*json*) cat "$SANDBOX/server.json" ;;
    "server show 11111111-"*status*) python3 -c "
import json
print(json.load(open('$SANDBOX/server.json'))['status'])" ;;
    "resource provider allocation show "*) cat "$SANDBOX/allocation.json" ;;
esac
"""


UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def cloud(tmp_path):
    machine = sandbox.Sandbox(tmp_path)
    machine.command("bin/openstack", CLOUD)
    (tmp_path / "create").write_text(f"{UUID}\n")
    (tmp_path / "left").touch()
    (tmp_path / "images").write_text("image-1\nimage-2\n")
    (tmp_path / "server.json").write_text('{"status": "ACTIVE"}')
    (tmp_path / "flavor.json").write_text(
        json.dumps({"properties": {"pci_passthrough:alias": "h100:4,cx7:2"}})
    )
    return machine


def allocate(cloud, *resources):
    (cloud.path / "allocation.json").write_text(
        json.dumps([{"resources": each} for each in resources])
    )


def check(cloud, *flavors, **env):
    return subprocess.run(
        ["bash", sandbox.PLUGIN / "tools/gpu-boot-check.sh", *flavors],
        env={
            "PATH": f"{cloud.path}/bin:{os.environ['PATH']}",
            "SANDBOX": str(cloud.path),
            "GPU_BOOT_CHECK_TIMEOUT": "0",
            "GPU_BOOT_CHECK_SETTLE": "0",
            **env,
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
    assert cloud.calls[-1] == f"openstack server delete --wait {UUID}"
    assert not [c for c in cloud.calls if "m1.tiny" in c]


def test_a_device_too_few_in_placement_fails(cloud):
    allocate(cloud, HOST, GPU, GPU, GPU, NIC, NIC)
    done = check(cloud)
    assert done.returncode == 1
    assert "Placement has allocated 5 devices" in done.stdout
    assert "server delete" in cloud.calls[-1]


@pytest.mark.parametrize(
    ("server", "message"),
    [
        pytest.param(
            {
                "status": "ERROR",
                "fault": {
                    "code": 500,
                    "message": "No valid host was found. There are not enough"
                    " hosts available.",
                },
            },
            "No valid host was found. There are not enough hosts available."
            " (more in the log of nova-scheduler)",
            id="the scheduler found no host",
        ),
        pytest.param(
            {
                "status": "ERROR",
                "OS-EXT-SRV-ATTR:host": "gpu1",
                "fault": {"code": 500, "message": "PciDeviceVanished"},
            },
            "PciDeviceVanished (more in the log of nova-compute on gpu1)",
            id="nova-compute failed",
        ),
        pytest.param(
            {
                "status": "ERROR",
                "OS-EXT-SRV-ATTR:host": None,
                "fault": {
                    "code": 500,
                    "message": "Exceeded maximum number of retries.",
                },
            },
            "Exceeded maximum number of retries. (more in the log of"
            " nova-compute on the hosts that tried)",
            id="nova-compute failed on every host",
        ),
        pytest.param(
            {"status": "BUILD"},
            "status BUILD (more in the log of nova-compute on the hosts that"
            " tried)",
            id="the client gave up",
        ),
    ],
)
def test_a_server_that_does_not_boot_fails_with_its_fault(
    cloud, server, message
):
    (cloud.path / "server.json").write_text(json.dumps(server))
    done = check(cloud)
    assert done.returncode == 1
    assert f"gpu-h100-4-cx7-2: no server: {message}\n" in done.stdout
    assert "server delete" in cloud.calls[-1]


def test_a_host_that_reports_its_devices_later_is_waited_for(cloud):
    refused = {"status": "ERROR", "fault": {"message": "No valid host"}}
    (cloud.path / "server.json").write_text(json.dumps(refused))
    allocate(cloud, HOST, GPU, GPU, GPU, GPU, NIC, NIC)
    cloud.command(
        "bin/sleep",
        f"""echo '{{"status": "ACTIVE"}}' > {cloud.path}/server.json""",
    )
    done = check(cloud, GPU_BOOT_CHECK_SETTLE="30")
    assert done.returncode == 0, done.stdout
    assert len([c for c in cloud.calls if "server create" in c]) == 2
    assert len([c for c in cloud.calls if "server delete" in c]) == 2


def test_a_server_that_nova_refuses_to_create_is_not_deleted(cloud):
    (cloud.path / "create").write_text("")
    done = check(cloud)
    assert done.returncode == 1
    assert "no server: Nova has not created it, see above" in done.stdout
    assert not [c for c in cloud.calls if "server delete" in c]


@pytest.mark.parametrize("shown", ['{"properties": {}}', ""])
def test_a_flavor_without_devices_or_not_there_fails(cloud, shown):
    (cloud.path / "flavor.json").write_text(shown)
    allocate(cloud, HOST)
    done = check(cloud, "m1.tiny")
    assert done.returncode == 1
    assert done.stdout == (
        "m1.tiny: no server: there is no such flavor, or it has no property"
        " pci_passthrough:alias and so asks for no device\n"
    )
    assert not [c for c in cloud.calls if "server create" in c]


def test_a_cloud_without_image_is_told_so(cloud):
    (cloud.path / "images").write_text("")
    done = check(cloud)
    assert done.returncode == 1
    assert "There is no image to boot" in done.stdout
    assert not [c for c in cloud.calls if "server create" in c]


def test_a_server_of_an_earlier_run_is_named_and_not_mistaken(cloud):
    allocate(cloud, HOST, GPU, GPU, GPU, GPU, NIC, NIC)
    (cloud.path / "left").write_text("99999999-left\n")
    done = check(cloud)
    assert done.returncode == 0, done.stdout
    assert "may have GPUs: 99999999-left\n" in done.stdout
    assert cloud.calls[-1] == f"openstack server delete --wait {UUID}"


def test_devices_of_standard_classes_count(cloud):
    allocate(cloud, HOST, *[{"PGPU": 1}] * 4, {"SRIOV_NET_VF": 2})
    done = check(cloud)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("value", ["true", "yes", "1", ""])
def test_placement_is_asked_however_localrc_says_so(cloud, value):
    allocate(cloud, HOST)
    done = check(cloud, NOVA_GPU_PCI_IN_PLACEMENT=value)
    assert done.returncode == 1
    assert "Placement has allocated 0 devices" in done.stdout


@pytest.mark.parametrize("value", ["False", "false", "no", "0"])
def test_placement_is_not_asked_where_it_keeps_no_count(cloud, value):
    done = check(cloud, NOVA_GPU_PCI_IN_PLACEMENT=value)
    assert done.returncode == 0, done.stdout
    assert not [c for c in cloud.calls if "allocation" in c]
