# SPDX-License-Identifier: Apache-2.0

"""What a board, its memory and the kernel's VFIO ask of a host."""

import shutil

import pytest

from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree

NODES = "/sys/devices/system/node"


def check(host, *checks):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    return [
        (one.severity, one.summary)
        for one in readiness.check(context)
        if one.check in checks and one.severity is not Severity.OK
    ]


def take_out(host, *addresses):
    for address in addresses:
        link = host.path(f"/sys/bus/pci/devices/{address}")
        shutil.rmtree(link.resolve())
        link.unlink()


@pytest.mark.parametrize(
    ("machine", "missing", "words"),
    [
        ("hgx_h100", (), []),
        ("hgx_h100", ("0000:0f:00.0",), ["7 of the 8 GPUs"]),
        ("hgx_h100", ("0000:c6:00.0",), ["3 of the 4 NVSwitches"]),
        (
            "hgx_h100",
            ("0000:0f:00.0", "0000:10:00.0", "0000:c6:00.0"),
            ["6 of the 8 GPUs", "3 of the 4 NVSwitches"],
        ),
        ("hgx_b200", ("0000:12:00.0",), ["7 of the 8 GPUs"]),
        ("gb200_tray", ("0009:01:00.0",), ["3 of the 4 GPUs"]),
        # A tray of NVL36 has two.
        ("gb200_tray", ("0009:01:00.0", "0019:01:00.0"), []),
        ("gb200_tray", (), []),
        ("dgx1_v100", ("0000:06:00.0",), ["7 of the 8 GPUs"]),
        ("a100_bridge_pairs", (), []),
        ("mi300x", (), []),
    ],
)
def test_what_is_missing_of_a_board_is_counted(build, machine, missing, words):
    host = build(machine)
    take_out(host, *missing)
    found = check(host, "board")
    assert len(found) == len(words)
    for (severity, summary), text in zip(found, words, strict=True):
        assert severity is Severity.WARNING
        assert text in summary


SWITCHES = tuple(f"0000:c{number}:00.0" for number in range(3, 7))
MANAGERS = ("0000:a1:00.0", "0000:a2:00.0")


@pytest.mark.parametrize(
    ("machine", "missing", "needs_manager"),
    [
        ("hgx_h100", ("0000:0f:00.0",), True),
        ("hgx_h100", SWITCHES, False),
        ("hgx_b200", ("0000:12:00.0",), True),
        ("hgx_b200", MANAGERS, False),
    ],
)
def test_a_virtual_machine_has_what_it_was_given(
    build, machine, missing, needs_manager
):
    host = build(machine)
    take_out(host, *missing)
    host.remove(fabric_manager.CONFIG)
    host.write(
        "/proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t: hypervisor"
    )
    assert check(host, "board") == []
    assert bool(check(host, "fabric-manager")) is needs_manager


def test_nvswitches_of_a_service_vm_are_there(build):
    host = build("hgx_h100")
    for address in SWITCHES:
        link = host.path(f"/sys/bus/pci/devices/{address}/driver")
        link.unlink()
        link.symlink_to("../../../../../bus/pci/drivers/vfio-pci")
    assert check(host, "board") == []


# Grace


@pytest.mark.parametrize(
    ("files", "is_told"),
    [
        ({}, False),
        ({"/proc/sys/kernel/osrelease": "5.14.0-570.el9.aarch64+64k"}, False),
        ({"/proc/sys/kernel/osrelease": "6.14.0-1015-nvidia"}, True),
        (
            {
                "/proc/sys/kernel/osrelease": "6.12.0",
                "/boot/config-6.12.0": "A=y\nCONFIG_ARM64_64K_PAGES=y\nB=y",
            },
            False,
        ),
        (
            {
                "/proc/sys/kernel/osrelease": "6.12.0-64k",
                "/boot/config-6.12.0-64k": "A=y\nCONFIG_ARM64_4K_PAGES=y\n",
            },
            True,
        ),
    ],
)
def test_grace_has_large_pages(build, files, is_told):
    host = build("gb200_tray")
    for path, content in files.items():
        host.write(path, content)
    found = [one for one in check(host, "memory") if "4 KiB" in one[1]]
    assert [one[0] for one in found] == ([Severity.NOTE] if is_told else [])


@pytest.mark.parametrize(
    ("memory", "cpu", "words"),
    [
        ("0-1", "0-1", None),
        ("0-2", "0-1", "NUMA nodes 2 have memory"),
        ("0-1,2,10,18,26", "0-1", "NUMA nodes 2, 10, 18, 26 have memory"),
        (None, None, None),
    ],
)
def test_memory_of_gpus_is_not_the_hosts(build, memory, cpu, words):
    host = build("gb200_tray")
    if memory is not None:
        host.write(f"{NODES}/has_memory", memory)
        host.write(f"{NODES}/has_cpu", cpu)
    found = [one for one in check(host, "memory") if "no processors" in one[1]]
    assert [one[0] for one in found] == ([Severity.WARNING] if words else [])
    assert all(words in one[1] for one in found)


def test_nodes_without_processors_are_no_matter_elsewhere(build):
    # CXL memory, for example.
    host = build("hgx_h100")
    host.write(f"{NODES}/has_memory", "0-2")
    host.write(f"{NODES}/has_cpu", "0-1")
    assert not any("processors" in one[1] for one in check(host, "memory"))


# VFIO of kernels

CONFIGURATION = "/boot/config-6.8.0-60-generic"


@pytest.mark.parametrize(
    ("gone", "there", "lines", "severity"),
    [
        (None, None, "", None),
        (None, None, "CONFIG_VFIO_GROUP=y\nCONFIG_VFIO_CONTAINER=y\n", None),
        ("vfio_iommu_type1", None, "CONFIG_VFIO_GROUP=y\n", Severity.WARNING),
        # iommufd gives the container in its place.
        (
            "vfio_iommu_type1",
            "iommufd",
            "CONFIG_VFIO_GROUP=y\nCONFIG_IOMMUFD_VFIO_CONTAINER=y\n",
            None,
        ),
        (
            "vfio_iommu_type1",
            None,
            "CONFIG_VFIO_GROUP=y\nCONFIG_IOMMUFD_VFIO_CONTAINER=y\n",
            Severity.WARNING,
        ),
        # By character devices only: libvirt finds no group.
        (
            None,
            "iommufd",
            "CONFIG_VFIO_DEVICE_CDEV=y\n# CONFIG_VFIO_GROUP is not set\n",
            Severity.ERROR,
        ),
    ],
)
def test_libvirt_finds_groups_and_a_container(
    build, gone, there, lines, severity
):
    host = build("k2_host")
    if gone:
        host.path(f"/sys/module/{gone}").rmdir()
    if there:
        host.mkdir(f"/sys/module/{there}")
    if lines:
        host.write(CONFIGURATION, lines)
    assert [one[0] for one in check(host, "vfio")] == (
        [severity] if severity else []
    )


def test_power_has_a_container_of_its_own(build):
    host = build("k2_host")
    host.path("/sys/module/vfio_iommu_type1").rmdir()
    host.mkdir("/sys/module/vfio_iommu_spapr_tce")
    host.write("/proc/cpuinfo", "processor\t: 0\ncpu\t\t: POWER9, altivec\n")
    assert check(host, "vfio") == []
