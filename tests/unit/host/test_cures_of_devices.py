# SPDX-License-Identifier: Apache-2.0

"""Cures of drivers, groups, boards, memory and modules, typed on files."""

import os
import shutil

import pytest

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host.checks.findings import Severity
from tests.sysfs_trees import MIB
from tests.sysfs_trees import Pci
from tests.unit.host.machine import DEVICES
from tests.unit.host.machine import Machine

RELEASE = "6.8.0-60-generic"
ARGUMENTS = "intel_iommu=on iommu=pt"
GPU, OTHER = "0000:85:00.0", "0000:86:00.0"


def relink(host, address, driver):
    link = host.path(f"{DEVICES}/{address}/driver")
    if link.is_symlink():
        link.unlink()
    if driver:
        host.mkdir(f"/sys/bus/pci/drivers/{driver}")
        host.link(
            f"{DEVICES}/{address}/driver", f"/sys/bus/pci/drivers/{driver}"
        )


@pytest.fixture
def machine(build):
    """Two GPUs that are ready, but share an IOMMU group."""
    return Machine(build("k2_host"), arguments=ARGUMENTS)


SHARED = "has other devices"


def left_of(machine, *arguments, **options):
    return [
        one for one in machine.cure(*arguments, **options) if SHARED not in one
    ]


# Drivers


@pytest.mark.parametrize("driver", ["nouveau", "nvidia", "nvidiafb"])
def test_a_gpu_has_vfio_pci_after_the_cure(machine, driver):
    relink(machine.host, GPU, driver)
    assert left_of(machine, f"the GPU is bound to {driver}") == []


def test_functions_of_a_card_have_vfio_pci_after_the_cures(build):
    host = build("rtx_with_audio_and_usb")
    host.vfio_at_boot("10de:1e07", "10de:10f7", "10de:1ad6", "10de:1ad7")
    machine = Machine(host, arguments=ARGUMENTS)
    machine.cure("is bound to snd_hda_intel")
    left = machine.cure("is bound to xhci_hcd")
    assert [one for one in left if "bound to" in one] == []


@pytest.mark.parametrize("driver", ["vfio-pci", "nvidia", "nouveau"])
def test_grace_has_its_driver_after_the_cures(build, driver):
    machine = Machine(build("gb200_tray", driver=driver))
    machine.cure(f"bound to {driver}")
    assert [
        one for one in machine.cure("at the next boot") if "NVLinks" not in one
    ] == []


def test_a_misspelt_override_is_right_after_the_cure(machine):
    relink(machine.host, GPU, None)
    machine.host.write(f"{DEVICES}/{GPU}/driver_override", "vfio_pci")
    assert left_of(machine, "driver_override is vfio_pci") == []


def test_a_gpu_of_gim_is_for_guests_after_the_cure(build):
    host = build("mi300x")
    host.vfio_at_boot("1002:74a1")
    host.write("/etc/modprobe.d/radeon.conf", "blacklist radeon")
    for address in ("0000:05:00.0", "0000:85:00.0"):
        relink(host, address, "gim")
    machine = Machine(host, arguments="iommu=pt")
    left = machine.cure("bound to gim")
    assert {one for one in left if "reset" not in one} == set()


def test_a_nic_that_is_asked_for_has_vfio_pci_after_the_cure(build):
    host = build("hgx_h100")
    nic = "0000:0d:00.0"
    machine = Machine(host, arguments=ARGUMENTS)
    left = machine.cure("the network card is bound to", asked=(nic,))
    assert left == []


def test_a_host_bound_vf_has_vfio_pci_after_the_cure(build):
    host = build("flex_with_vfs", vfs=2)
    relink(host, "0000:4d:00.2", "i915")
    machine = Machine(host, arguments=ARGUMENTS)
    assert machine.cure("VFs are bound to i915") == []


def test_a_gpu_without_vfs_is_given_whole_after_the_cure(build):
    host = build("flex_with_vfs", vfs=2)
    machine = Machine(host, arguments=ARGUMENTS)
    (note,) = [one for one in machine.find() if "2 VFs are on" in one.summary]
    for command in note.cures:
        machine.type(command)
    assert not [one for one in machine.find() if "VFs are on" in one.summary]


def test_a_member_of_the_group_leaves_it_to_guests_after_the_cure(build):
    host = build("k2_host")
    host.add(
        Pci(
            "0000:87:00.0",
            "0000:84:10.0",
            "8086:1533",
            0x020000,
            group=41,
            driver="igb",
            bars=(MIB,),
        )
    )
    machine = Machine(host, arguments=ARGUMENTS)
    machine.cure("the kernel refuses to give away the group")


# Modules, and what is loaded when


def test_modules_of_vfio_are_loaded_after_the_cure(machine):
    host = machine.host
    for module in ("vfio", "vfio_pci", "vfio_iommu_type1"):
        shutil.rmtree(host.path(f"/sys/module/{module}"))
    machine.programs["modprobe"] = lambda words: host.vfio()
    assert left_of(machine, "not loaded: ") == []
    assert (
        host.path("/etc/modules-load.d/vfio-pci.conf").read_text()
        == "vfio-pci\n"
    )


@pytest.mark.parametrize(
    ("files", "program", "image"),
    [
        ({"/etc/initramfs-tools/modules": ""}, "update-initramfs", "initrd"),
        ({"/etc/dracut.conf": ""}, "dracut", "initramfs"),
        ({"/etc/mkinitcpio.conf": ""}, "mkinitcpio", "initrd"),
    ],
)
def test_an_initramfs_is_new_after_the_cure(machine, files, program, image):
    host = machine.host
    for path, text in files.items():
        host.write(path, text)
    path = (
        f"/boot/initrd.img-{RELEASE}"
        if image == "initrd"
        else f"/boot/initramfs-{RELEASE}.img"
    )
    host.write(path, "")
    os.utime(host.path(path), (1, 1))
    machine.programs[program] = lambda words: os.utime(host.path(path))
    assert left_of(machine, "was changed after the initramfs") == []


def test_vfio_has_an_iommu_after_the_cure(machine):
    machine.host.write(
        "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y"
    )
    assert left_of(machine, "VFIO works without an IOMMU") == []


@pytest.mark.parametrize("loader", ["grub", "grubby", "rpm-ostree"])
def test_the_hosts_devices_go_past_the_iommu_after_the_cure(build, loader):
    machine = Machine(build("k2_host"), loader, "intel_iommu=on")
    assert left_of(machine, "iommu=pt is not set") == []


@pytest.mark.parametrize("way", ["driverctl", "ids"])
def test_what_the_host_needs_is_left_to_it_after_the_cure(build, way):
    host = build("laptop")
    gpu = "0000:00:02.0"
    if way == "driverctl":
        host.write(f"/etc/driverctl.d/pci-{gpu}", "vfio-pci")
    else:
        host.write("/etc/modprobe.d/v.conf", "options vfio-pci ids=8086:3e9b")
    machine = Machine(host, arguments=ARGUMENTS)
    (found,) = [
        one for one in machine.check() if "takes it at the next" in one.summary
    ]
    if way == "ids":
        assert found.cures[0] == (
            "# take 8086:3e9b out of /etc/modprobe.d/v.conf"
        )
        host.remove("/etc/modprobe.d/v.conf")
    else:
        for command in found.cures:
            machine.type(command)
    assert "takes it" not in "".join(one.summary for one in machine.check())


# Boards, Grace's memory, confidential computing


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        ("hgx_h100", "0000:0f:00.0", "7 of the 8 GPUs"),
        ("hgx_h100", "0000:c6:00.0", "3 of the 4 NVSwitches"),
        ("gb200_tray", "0009:01:00.0", "3 of the 4 GPUs"),
    ],
)
def test_a_board_is_whole_after_a_rescan(build, name, address, words):
    host = build(name)
    link = host.path(f"{DEVICES}/{address}")
    target = os.readlink(link)
    link.unlink()
    machine = Machine(host, arguments=ARGUMENTS)
    machine.at_rescan = lambda: link.symlink_to(target)
    machine.cure(words)


def test_memory_of_gpus_is_theirs_after_the_cures(build):
    host = build("gb200_tray", driver="nvidia")
    nodes = "/sys/devices/system/node"
    host.write(f"{nodes}/has_cpu", "0-1")
    host.write(f"{nodes}/has_memory", "0-1,2,10,18,26")
    host.write("/etc/initramfs-tools/modules", "")
    machine = Machine(host)

    def boot(arguments):
        # A rule has no effect without the driver that it names.
        driver = "nvgrace_gpu_vfio_pci"
        loaded = host.path(f"/etc/modules-load.d/{driver}.conf").read_text()
        rules = host.path("/etc/udev/rules.d/70-nova-gpu-host.rules")
        for address in ("0008", "0009", "0018", "0019"):
            assert f"[pci/{address}:01:00.0]" in rules.read_text()
            relink(host, f"{address}:01:00.0", loaded.strip())
        host.write(f"{nodes}/has_memory", "0-1")

    machine.at_boot = boot
    assert machine.cure("have memory and no processors") == []


@pytest.mark.parametrize(
    ("mode", "option"),
    [("on", "cc"), ("devtools", "cc"), ("ppcie", "ppcie")],
)
def test_the_mode_of_a_gpu_is_off_after_the_cure(build, mode, option):
    host = build("hgx_h100")
    machine = Machine(host, arguments=ARGUMENTS)
    gpus = [one.address for one in cc_addresses(machine)]
    modes = dict.fromkeys(gpus, mode)

    def set_mode(words):
        assert words[1] == "nvidia_gpu_tools.py"
        (address,) = [one for one in gpus if str(one) == words[3]]
        assert words[2] == "--devices"
        assert words[4:] == [
            f"--set-{option}-mode=off",
            f"--reset-after-{option}-mode-switch",
        ]
        modes[address] = cc_mode.OFF

    machine.programs["python3"] = set_mode
    known = cc_mode.Modes("cc.txt", modes)
    found = [
        one
        for one in machine.check(cc_modes=known)
        if one.check == "confidential"
    ]
    assert [one.severity for one in found] == [Severity.ERROR] * 8
    for command in (command for one in found for command in one.cures):
        machine.type(command)
    assert machine.check(cc_modes=known) == []


def cc_addresses(machine):
    return [
        one
        for one in machine.inventory().functions
        if one.vendor_id == 0x10DE and one.class_code == 0x030200
    ]


def test_fabric_manager_has_nvlsm_after_the_cure(build):
    host = build("hgx_b200")
    entry = "Package: {}\nStatus: install ok installed\nVersion: 580.95.05-1\n"
    dpkg = "/var/lib/dpkg/status"
    host.write(dpkg, entry.format("nvidia-fabricmanager"))
    machine = Machine(host, arguments=ARGUMENTS)

    def install(words):
        assert words[1] == "install"
        text = host.path(dpkg).read_text()
        host.write(dpkg, f"{text}\n{entry.format(words[2])}")

    machine.programs["apt-get"] = install
    assert machine.cure("without NVLSM") == []


def test_a_gpu_of_mediated_devices_is_given_whole_after_the_cure(build):
    host = build("k2_host")
    relink(host, GPU, "nvidia")
    kinds = f"{DEVICES}/{GPU}/mdev_supported_types"
    host.write(f"{kinds}/nvidia-18/name", "GRID K240Q")
    host.write(f"{kinds}/nvidia-18/available_instances", 4)
    machine = Machine(host, arguments=ARGUMENTS)
    # Its driver has it no more.
    machine.programs["modprobe"] = lambda words: shutil.rmtree(
        host.path(kinds)
    )
    assert left_of(machine, "makes mediated devices") == []
