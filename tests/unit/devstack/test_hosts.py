# SPDX-License-Identifier: Apache-2.0

"""Compute nodes: what nova-gpu-host writes, the fake driver, vfio-pci."""

import pytest

from tests import sysfs_trees
from tests.unit.devstack import sandbox

COMPUTE = """\
# written by nova-gpu-host
[pci]
report_in_placement = true
device_spec = {"address": "0000:0f:00.0", "resource_class": "CUSTOM_GPU_H100"}
device_spec = {"address": "0000:10:00.0", "resource_class": "CUSTOM_GPU_H100"}
"""
CONTROLLER = """\
[pci]
alias = {"name": "h100", "resource_class": "CUSTOM_GPU_H100"}
"""


@pytest.fixture
def automatic(machine):
    """Make a machine whose devices nova-gpu-host finds."""
    machine.set(NOVA_GPU_DEVICE_SPEC="auto", NOVA_GPU_PCI_ALIAS="auto")
    (machine.path / "compute.conf").write_text(COMPUTE)
    (machine.path / "controller.conf").write_text(CONTROLLER)
    return machine


def asked(machine):
    return [c for c in machine.calls if c.startswith("nova-gpu-host")]


def test_auto_takes_what_nova_gpu_host_found(automatic):
    automatic.run("stack")
    specs = automatic.device_specs("nova/nova-cpu.conf")
    assert [str(spec.address.pci_address_spec.bus) for spec in specs] == [
        "0f",
        "10",
    ]
    assert set(automatic.aliases()) == {"h100"}
    assert sorted(asked(automatic)) == [
        "nova-gpu-host config",
        "nova-gpu-host config --role controller",
    ]


def test_a_controller_reads_the_inventories_of_its_computes(automatic):
    automatic.role = "controller"
    paths = [automatic.path / f"gpu{number}.json" for number in (1, 2)]
    for path in paths:
        path.touch()
    files = " ".join(map(str, paths))
    automatic.set(NOVA_GPU_INVENTORIES=files)
    automatic.run("stack")
    assert asked(automatic) == [
        f"nova-gpu-host config --role controller {files}"
    ]
    assert set(automatic.aliases()) == {"h100"}


def test_arguments_are_handed_on(automatic):
    automatic.set(NOVA_GPU_HOST_ARGS="--nics --resource-class CUSTOM_GPU")
    automatic.run("stack")
    arguments = "--nics --resource-class CUSTOM_GPU"
    assert sorted(asked(automatic)) == [
        f"nova-gpu-host config {arguments}",
        f"nova-gpu-host config {arguments} --role controller",
    ]


def test_a_host_tool_that_fails_stops_stack(automatic):
    automatic.command("bin/nova-gpu-host", "echo no sysfs >&2; exit 2")
    done = automatic.run("stack", check=False)
    assert done.returncode != 0
    assert "no sysfs" in done.stdout
    assert "NOVA_GPU_DEVICE_SPEC=auto: nova-gpu-host config failed" in (
        done.stdout
    )
    assert "leave NOVA_GPU_DEVICE_SPEC empty on a node without GPU" in (
        done.stdout
    )


def test_the_fake_driver_is_asked_for_no_devices(automatic):
    automatic.set(VIRT_DRIVER="fake", NOVA_GPU_BIND_VFIO="True")
    done = automatic.run("stack")
    assert "the fake driver reports no PCI devices" in done.stdout
    assert "nova-gpu-host config" not in asked(automatic)
    assert automatic.device_specs() == []
    assert not [c for c in automatic.calls if "modprobe" in c]
    options = automatic.nova("nova/nova-cpu.conf")
    assert options.pci.report_in_placement
    assert "compute_driver = fake.FakeDriverWithoutFakeNodes" in (
        automatic.options("nova/nova-cpu.conf", "DEFAULT")
    )


@pytest.fixture
def without_gpus(machine):
    """Make a machine whose GPUs are those of our fake driver."""
    machine.localrc = {"VIRT_DRIVER": "fake", "NOVA_GPU_FAKE_DRIVER": "True"}
    return machine


DRIVER = "dest/nova/nova/virt/nova_gpu_fake.py"


def test_one_variable_gives_a_fake_host_eight_gpus_and_an_alias(without_gpus):
    without_gpus.ask_nova()
    without_gpus.set(NOVA_GPU_CHECK="False")
    without_gpus.run("stack")
    assert "compute_driver = nova_gpu_fake.GpuFakeDriver" in (
        without_gpus.options("nova/nova-cpu.conf", "DEFAULT")
    )
    assert (without_gpus.path / DRIVER).samefile(
        sandbox.PLUGIN / "fake/nova_gpu_fake.py"
    )
    assert len(without_gpus.device_specs("nova/nova-cpu.conf")) == 8
    assert set(without_gpus.aliases()) == {"h100"}
    assert (without_gpus.path / "flavors/gpu-h100-1").exists()
    assert not asked(without_gpus)


def test_unstack_gives_the_fake_driver_of_nova_back(without_gpus):
    without_gpus.run("stack")
    without_gpus.run("unstack")
    assert not (without_gpus.path / DRIVER).is_symlink()
    assert "compute_driver = fake.FakeDriverWithoutFakeNodes" in (
        without_gpus.options("nova/nova-cpu.conf", "DEFAULT")
    )


def test_a_fake_host_may_offer_other_devices(without_gpus):
    without_gpus.set(NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC)
    without_gpus.run("stack")
    assert len(without_gpus.device_specs("nova/nova-cpu.conf")) == 2
    assert set(without_gpus.aliases()) == {"h100"}


def test_a_controller_of_fake_hosts_gets_the_alias_alone(without_gpus):
    without_gpus.role = "controller"
    without_gpus.run("stack")
    assert set(without_gpus.aliases()) == {"h100"}
    assert without_gpus.device_specs() == []
    assert not (without_gpus.path / DRIVER).exists()


def test_gpus_of_the_fake_driver_on_another_driver_stop_stack(without_gpus):
    without_gpus.set(VIRT_DRIVER="libvirt")
    done = without_gpus.run("stack", check=False)
    assert done.returncode != 0
    assert "needs VIRT_DRIVER=fake, not libvirt" in done.stdout
    assert not [c for c in without_gpus.calls if c.startswith("pip_install")]


def test_a_nova_without_checkout_cannot_have_our_driver(without_gpus):
    done = without_gpus.run(
        "call",
        "mkdir -p $NOVA_CONF_DIR; create_nova_conf; NOVA_DIR=/nowhere;"
        "_nova_gpu_configure_compute",
        check=False,
    )
    assert done.returncode != 0
    assert "/nowhere/nova/virt is not there" in done.stdout


def test_the_fake_driver_may_have_device_specs(machine):
    machine.set(VIRT_DRIVER="fake")
    machine.run("stack")
    assert len(machine.device_specs("nova/nova-cpu.conf")) == 2


# address: class, vendor, device, driver
BUS = {
    "0000:0f:00.0": ("030200", "10de", "2330", "nvidia"),
    "0000:10:00.0": ("030200", "10de", "2330", "vfio-pci"),
    "0000:11:00.0": ("030200", "10de", "2330", None),
    "0000:12:00.0": ("020000", "15b3", "1021", "mlx5_core"),
    "0000:13:00.0": ("030000", "1a03", "2000", "ast"),
}


@pytest.fixture
def host(machine):
    """Make a compute node with a /sys of its own."""
    machine.role = "compute"
    machine.ask_nova()
    machine.set(
        NOVA_GPU_CHECK="False",
        NOVA_GPU_BIND_VFIO="True",
        NOVA_GPU_SYSFS=str(machine.path / "sys"),
        NOVA_GPU_DEVICE_SPEC=[
            {"vendor_id": "10de", "address": "0000:*:00.0"},
            {"vendor_id": "15b3"},
        ],
    )
    bus = machine.path / "sys/bus/pci"
    for number, (address, facts) in enumerate(BUS.items()):
        device = bus / "devices" / address
        device.mkdir(parents=True)
        for name, value in zip(
            ("class", "vendor", "device"), facts[:3], strict=True
        ):
            (device / name).write_text(f"0x{value}\n")
        driver = facts[3] or ""
        (device / "host_driver").write_text(driver)
        (device / "iommu_group").symlink_to(f"../../groups/{number}")
        if driver:
            (bus / "drivers" / driver).mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(f"../../drivers/{driver}")
    (bus / "drivers/vfio-pci").mkdir(exist_ok=True)
    return machine


def drivers(machine):
    bus = machine.path / "sys/bus/pci/devices"
    return {
        each.name: (each / "driver").readlink().name
        for each in sorted(bus.iterdir())
        if (each / "driver").is_symlink()
    }


def test_gpus_of_the_device_specs_go_to_vfio_and_nothing_else(host):
    host.run("stack")
    assert drivers(host) == {
        "0000:0f:00.0": "vfio-pci",
        "0000:10:00.0": "vfio-pci",
        "0000:11:00.0": "vfio-pci",
        "0000:12:00.0": "mlx5_core",
        "0000:13:00.0": "ast",
    }
    assert "sudo modprobe vfio-pci" in host.calls


def test_no_device_changes_its_driver_unless_asked_to(host):
    host.set(NOVA_GPU_BIND_VFIO="False")
    before = drivers(host)
    host.run("stack")
    assert drivers(host) == before


def test_unstack_gives_back_what_was_taken(host):
    before = drivers(host)
    host.run("stack")
    host.run("stack")
    (host.path / "sys/bus/pci/devices/0000:11:00.0/host_driver").write_text(
        "nvidia"
    )
    host.run("unstack")
    # The second was with vfio-pci before, and the third gets what the kernel
    # finds for it.
    assert drivers(host) == {**before, "0000:11:00.0": "nvidia"}


def test_a_device_that_a_guest_has_is_left_until_clean(host):
    before = drivers(host)
    host.run("stack")
    guest = host.path / "guest"
    guest.write_text("/proc/4711/fd/33\n")
    done = host.run("unstack")
    assert "0000:0f:00.0 stays with vfio-pci: a guest has it" in done.stdout
    assert drivers(host)["0000:0f:00.0"] == "vfio-pci"
    guest.unlink()
    (host.path / "sys/bus/pci/devices/0000:11:00.0/host_driver").write_text(
        "nvidia"
    )
    host.run("clean")
    assert drivers(host) == {**before, "0000:11:00.0": "nvidia"}
    assert not (host.path / "dest/data/nova-gpu-filter").exists()


def test_a_device_that_vfio_does_not_get_stops_stack(host):
    host.command("bin/kernel", "cat > /dev/null")
    done = host.run("stack", check=False)
    assert done.returncode != 0
    assert (
        "0000:0f:00.0: vfio-pci did not take it over from nvidia; "
        "nova-gpu-host check says why"
    ) in done.stdout


def test_auto_understands_what_the_real_nova_gpu_host_writes(machine):
    sysfs_trees.hgx_h100(machine.path / "host")
    machine.use_host_tool(machine.path / "host")
    machine.set(
        NOVA_GPU_DEVICE_SPEC="auto",
        NOVA_GPU_PCI_ALIAS="auto",
        NOVA_GPU_HOST_ARGS="--resource-class CUSTOM_GPU",
    )
    machine.run("stack")
    specs = machine.device_specs("nova/nova-cpu.conf")
    assert len(specs) == 8
    assert {spec.get_tags()["resource_class"] for spec in specs} == {
        "CUSTOM_GPU"
    }
    [(_policy, [alias])] = machine.aliases().values()
    assert alias["resource_class"] == "CUSTOM_GPU"
