# SPDX-License-Identifier: Apache-2.0

import dataclasses
import os

import pytest

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.sysfs import pci_functions
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB


def by_text(inventory):
    return {str(device.address): device for device in inventory.functions}


def test_the_k2_pair_reads_as_in_lspci(build, read):
    assert [gpu.format_lspci() for gpu in read(build("k2_host")).gpus] == [
        "85:00.0 VGA compatible controller [0300]: NVIDIA Corporation"
        " GK104GL [GRID K2] [10de:11bf] (rev a1)",
        "86:00.0 VGA compatible controller [0300]: NVIDIA Corporation"
        " GK104GL [GRID K2] [10de:11bf] (rev a1)",
    ]


def test_everything_else_about_a_k2_is_read(build, read):
    inventory = read(build("k2_host"))
    gpu = inventory.gpus[0]
    expected = {
        "address": PciAddress(0, 0x85, 0, 0),
        "kind": Kind.GPU,
        "class_code": 0x030000,
        "subsystem_name": "GRID K2 board",
        "numa_node": 1,
        "iommu_group": 41,
        "driver": "vfio-pci",
        "driver_override": None,
        "sriov_totalvfs": None,
        "nova_type": "type-PCI",
        "reset_methods": ("bus",),
        "bar_bytes": 176 * MIB,
        "root": "pci0000:80",
        "product": "GRID K2",
        "modalias": "pci:v000010DEd000011BFsv000010DEsd0000100Abc03sc00i00",
    }
    assert {name: getattr(gpu, name) for name in expected} == expected
    assert [str(bridge) for bridge in gpu.bridges] == [
        "0000:80:02.0",
        "0000:83:00.0",
        "0000:84:08.0",
    ]
    assert (gpu.chip.code_name, gpu.chip.architecture) == ("GK104", "Kepler")
    assert (gpu.pcie_link.speed, gpu.pcie_link.width) == ("8.0 GT/s PCIe", 16)
    assert [
        (str(member.address), member.driver)
        for member in inventory.members_by_group[41]
    ] == [
        ("0000:83:00.0", "pcieport"),
        ("0000:84:08.0", "pcieport"),
        ("0000:84:10.0", "pcieport"),
        ("0000:85:00.0", "vfio-pci"),
        ("0000:86:00.0", "vfio-pci"),
    ]


@pytest.mark.parametrize(
    ("machine", "gpus", "nvswitches", "nics", "functions"),
    [
        ("k2_host", 2, 0, 0, 2),
        ("hgx_h100", 8, 4, 8, 20),
        ("a100_bridge_pairs", 4, 0, 0, 4),
        ("rtx_with_audio_and_usb", 1, 0, 0, 4),
        ("mi300x", 2, 0, 0, 2),
        ("flex_with_vfs", 1, 0, 0, 32),
        ("laptop", 2, 0, 0, 2),
        ("vm_without_iommu", 1, 0, 0, 1),
        ("dgx1_v100", 8, 0, 0, 8),
    ],
)
def test_devices_of_each_machine_are_found(
    build, read, machine, gpus, nvswitches, nics, functions
):
    inventory = read(build(machine))
    assert len(inventory.gpus) == gpus
    assert len(inventory.nvswitches) == nvswitches
    assert len(inventory.nics) == nics
    assert len(inventory.functions) == functions
    assert inventory.problems == ()


def test_functions_of_one_slot_are_one_card(build, read):
    inventory = read(build("rtx_with_audio_and_usb"))
    card = inventory.list_card_functions(inventory.gpus[0])
    assert [(str(part.address), part.kind) for part in card] == [
        ("0000:01:00.0", Kind.GPU),
        ("0000:01:00.1", Kind.FUNCTION),
        ("0000:01:00.2", Kind.FUNCTION),
        ("0000:01:00.3", Kind.FUNCTION),
    ]


def test_vfs_belong_to_their_pf_and_are_no_functions_of_its_card(build, read):
    inventory = read(build("flex_with_vfs"))
    gpu = inventory.gpus[0]
    assert (gpu.sriov_totalvfs, gpu.sriov_numvfs) == (31, 31)
    assert gpu.nova_type == "type-PF"
    vfs = list(inventory.list_vfs(gpu))
    assert len(vfs) == 31
    assert {vf.nova_type for vf in vfs} == {"type-VF"}
    assert {vf.kind for vf in vfs} == {Kind.GPU}
    assert inventory.list_card_functions(gpu) == (gpu,)


def test_an_accelerator_of_class_1200_is_a_gpu(build, read):
    gpu = read(build("mi300x")).gpus[0]
    assert gpu.class_code == 0x120000
    assert gpu.chip.isa == "gfx942"
    assert gpu.bar_bytes == 256 * GIB + 2 * MIB + 512 * 1024


def test_a_virtual_function_without_the_pf_in_the_copy_keeps_its_name(
    build, read
):
    host = build("flex_with_vfs", vfs=1)
    host.remove("/sys/bus/pci/devices/0000:4d:00.0")
    inventory = read(host)
    (vf,) = inventory.functions
    assert str(vf.physfn) == "0000:4d:00.0"


def test_domains_above_ffff_are_read_and_shown(tmp_path, read):
    host = sysfs_trees.Host(tmp_path)
    port = host.bridge("10000:00:02.0", "pci10000:00")
    host.add(sysfs_trees.Pci("10000:01:00.0", port, "10de:20f1", 0x030200))
    inventory = read(host)
    assert str(inventory.gpus[0].address) == "10000:01:00.0"
    assert inventory.with_domain
    assert inventory.gpus[0].format_lspci(True).startswith("10000:01:00.0 3D")


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("vendor", "vendor, device or class cannot be read"),
        ("class", "vendor, device or class cannot be read"),
    ],
)
def test_a_half_written_device_is_left_out_and_said_so(
    build, read, missing, problem
):
    host = build("k2_host")
    host.remove(f"/sys/bus/pci/devices/0000:85:00.0/{missing}")
    inventory = read(host)
    assert [str(gpu.address) for gpu in inventory.gpus] == ["0000:86:00.0"]
    (said,) = inventory.problems
    assert "0000:85:00.0" in said
    assert problem in said


@pytest.mark.parametrize(
    "name",
    [
        "subsystem_vendor",
        "revision",
        "numa_node",
        "driver_override",
        "resource",
        "modalias",
        "reset_method",
        "current_link_speed",
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"garbage"])
def test_every_other_file_may_be_missing_or_damaged(
    build, read, name, content
):
    host = build("k2_host")
    path = f"/sys/bus/pci/devices/0000:85:00.0/{name}"
    if content is None:
        host.remove(path)
    else:
        host.write(path, content)
    assert len(read(host).gpus) == 2


def test_a_tree_that_is_no_sysfs_is_said_so(tmp_path):
    inventory = reader.read(tree.Tree(str(tmp_path)))
    assert inventory.functions == ()
    assert inventory.problems == (
        "/sys/bus/pci/devices is not there: this is no sysfs, or no PCI host",
    )


def test_a_copy_that_lost_its_links_still_has_devices(tmp_path, build):
    host = build("k2_host")
    flat = tmp_path / "flat" / "sys/bus/pci/devices/0000:85:00.0"
    flat.mkdir(parents=True)
    source = host.path("/sys/bus/pci/devices/0000:85:00.0")
    for name in os.listdir(source):
        if (source / name).is_file():
            (flat / name).write_bytes((source / name).read_bytes())
    inventory = reader.read(tree.Tree(str(tmp_path / "flat")))
    (gpu,) = inventory.gpus
    assert (gpu.root, gpu.driver, gpu.iommu_group) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("0", (0,)),
        ("0-1", (0, 1)),
        ("0,2-3", (0, 2, 3)),
        ("", ()),
        ("odd", ()),
    ],
)
def test_numa_nodes_are_read_from_the_kernels_list(tmp_path, text, nodes):
    host = sysfs_trees.Host(tmp_path)
    host.write("/sys/devices/system/node/online", text)
    assert reader.read(tree.Tree(str(tmp_path))).numa_nodes == nodes


@pytest.mark.parametrize(
    ("ids", "code", "rdma", "kind"),
    [
        ("15b3:1021", 0x020000, None, Kind.NIC),
        ("15b3:1021", 0x020700, None, Kind.NIC),
        ("1d0f:efa1", 0x020000, None, Kind.NIC),
        ("8086:1592", 0x020000, "irdma0", Kind.NIC),
        ("8086:1592", 0x020000, None, None),
        ("10de:22a3", 0x068000, None, Kind.NVSWITCH),
        ("8086:22a3", 0x068000, None, None),
        ("1234:1111", 0x030000, None, Kind.GPU),
        ("1da3:1020", 0x120000, None, Kind.GPU),
        ("8086:0953", 0x010802, None, None),
    ],
)
def test_the_kind_of_a_device_follows_from_class_vendor_and_driver(
    tmp_path, read, ids, code, rdma, kind
):
    host = sysfs_trees.Host(tmp_path)
    port = host.bridge("0000:00:01.0", "pci0000:00")
    host.add(sysfs_trees.Pci("0000:01:00.0", port, ids, code, rdma=rdma))
    found = by_text(read(host)).get("0000:01:00.0")
    assert (found and found.kind) == kind


def test_mediated_devices_are_listed_with_what_is_left(tmp_path, read):
    host = sysfs_trees.Host(tmp_path)
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            "pci0000:00",
            "10de:1eb8",
            0x030200,
            mdev=(("nvidia-222", "GRID T4-1B", 14),),
        )
    )
    made = ("0a1b", "4b20")
    for uuid in made:
        host.make_mdev("0000:01:00.0", "nvidia-222", uuid)
    (mdev,) = read(host).gpus[0].mdev_types
    assert dataclasses.astuple(mdev) == ("nvidia-222", "GRID T4-1B", 14, made)


@pytest.mark.parametrize(
    ("reset_method", "reset", "methods"),
    [
        ("flr bus", False, ("flr", "bus")),
        ("", False, ()),
        (None, True, ("unknown",)),
        (None, False, ()),
    ],
)
def test_kernels_before_5_15_tell_only_whether_there_is_a_reset(
    tmp_path, read, reset_method, reset, methods
):
    host = sysfs_trees.Host(tmp_path)
    host.add(
        sysfs_trees.Pci(
            "0000:01:00.0",
            "pci0000:00",
            "10de:1eb8",
            0x030200,
            reset=reset_method,
        )
    )
    if reset:
        host.write("/sys/bus/pci/devices/0000:01:00.0/reset", "")
    assert read(host).gpus[0].reset_methods == methods


def test_names_are_missing_only_where_no_database_is(build, read, monkeypatch):
    host = build("k2_host")
    host.remove("/usr/share/hwdata/pci.ids")
    empty = host.root / "nothing"
    empty.mkdir()
    monkeypatch.setattr(
        reader.pci_ids,
        "load",
        lambda *trees: reader.pci_ids.EMPTY,
    )
    gpu = read(host).gpus[0]
    assert gpu.chip is None
    assert (
        gpu.format_lspci()
        == "85:00.0 Class [0300]: Device [10de:11bf] (rev a1)"
    )


def test_a_thousand_vfs_are_read(build, read):
    inventory = read(build("many_vfs"))
    assert len(inventory.functions) == 1020
    assert sum(len(nic.vfs) for nic in inventory.nics) == 1000


def test_the_real_sysfs_of_this_machine_is_read():
    files = tree.Tree()
    inventory = reader.read(files)
    listed = os.listdir("/sys/bus/pci/devices")
    addresses = [str(device.address) for device in inventory.functions]
    assert set(addresses) <= set(listed)
    expected = set()
    for name in listed:
        with open(f"/sys/bus/pci/devices/{name}/class") as file:
            if int(file.read(), 16) >> 8 in pci_functions.GPU_CLASSES:
                expected.add(name)
    found = {
        str(device.address)
        for device in inventory.functions
        if device.kind is Kind.GPU and device.physfn is None
    }
    assert expected <= found | {
        str(device.address)
        for device in inventory.functions
        if device.physfn is not None
    }
    assert inventory.hostname == os.uname().nodename
