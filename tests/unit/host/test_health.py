# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
GPU = "0000:c1:00.0"
DEVICE = f"/sys/bus/pci/devices/{GPU}"
PORT = "/sys/bus/pci/devices/0000:c0:01.1"
BAR0 = "0x00000000b7000000 0x00000000b7ffffff 0x0000000000040200"
NOTHING = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


def config(ids="10de:2bb5", bars=(0xB7000000, 0xC)):
    """The header of a device: ids, header type 0, BARs."""
    header = bytearray(64)
    vendor, product = (int(part, 16) for part in ids.split(":"))
    header[0:4] = vendor.to_bytes(2, "little") + product.to_bytes(2, "little")
    for index, value in enumerate(bars):
        at = 0x10 + 4 * index
        header[at : at + 4] = value.to_bytes(4, "little")
    return bytes(header)


@pytest.fixture
def host(tmp_path):
    """Four GPUs, each below a root port, that are ready."""
    host = sysfs_trees.Host(tmp_path)
    host.nodes(2)
    host.iommu("amd")
    for index, (bus, root) in enumerate(
        (("c1", "c0"), ("c2", "c0"), ("01", "00"), ("02", "00"))
    ):
        port = f"0000:{root}:0{index % 2 + 1}.1"
        host.bridge(port, f"pci0000:{root}", 10 + index)
        host.add(
            sysfs_trees.Pci(
                f"0000:{bus}:00.0",
                port,
                "10de:2bb5",
                0x030200,
                subsystem="10de:204e",
                numa=index // 2,
                group=30 + index,
                driver="vfio-pci",
                bars=(64 * MIB, 128 * GIB, 32 * MIB),
                totalvfs=48,
                vf_ids="10de:2bb5",
            )
        )
    host.vfio_at_boot("10de:2bb5")
    return host


@pytest.fixture
def troubles(host):
    """Findings that ask for action: (check, severity, device, summary)."""

    def find(*severities):
        files = tree.Tree(str(host.root))
        inventory = reader.read(files)
        context = Context(files, inventory, linking.join(inventory))
        return [
            (one.check, one.severity, one.device, one.summary)
            for one in readiness.check(context)
            if one.severity in (severities or (ERROR, WARNING))
        ]

    return find


def test_healthy_devices_are_quiet(host, troubles):
    host.write(f"{DEVICE}/config", config())
    for name in ("fatal", "nonfatal", "correctable"):
        host.write(f"{DEVICE}/aer_dev_{name}", "DLP 0\nTOTAL_ERR 0\n")
    host.write(f"{DEVICE}/power/runtime_status", "active")
    assert troubles() == []


@pytest.mark.parametrize(
    "files",
    [
        {"config": b"\xff" * 64},
        {"config": b"\xff" * 4 + bytes(60)},
        {"config": bytes(64)},
        {"config": b""},
        {"config": config()[:16]},
        {"config": config()[:14] + b"\x7f" + config()[15:]},
        {"config": config()[:14] + b"\xff" + config()[15:]},
        {"config": config("10de:ffff")},
        {"current_link_width": "63"},
        {"current_link_speed": "Unknown"},
        {"current_link_width": "0"},
        {"current_link_width": "63", "max_link_width": "63"},
        {"power_state": "error"},
        {"power_state": "D3cold", "current_link_width": "63"},
        {"power/runtime_status": "error"},
        {
            "config": b"\xff" * 64,
            "power_state": "D3cold",
            "current_link_speed": "Unknown",
            "current_link_width": "63",
        },
    ],
)
def test_a_device_that_does_not_answer_is_an_error(host, troubles, files):
    for name, content in files.items():
        host.write(f"{DEVICE}/{name}", content)
    ((check, severity, device, summary),) = troubles()
    assert (check, severity, device) == ("health", ERROR, GPU)
    assert "does not answer" in summary


def test_a_device_that_sleeps_is_no_dead_one(host, troubles):
    host.write(f"{DEVICE}/config", config())
    host.write(f"{DEVICE}/power_state", "D3cold")
    host.write(f"{DEVICE}/power/runtime_status", "suspended")
    # A kernel that does not wake it for these reads ones.
    host.write(f"{DEVICE}/current_link_speed", "Unknown")
    host.write(f"{DEVICE}/current_link_width", "63")
    assert troubles() == []
    assert ("health", NOTE, GPU) in [one[:3] for one in troubles(NOTE)]


def test_a_device_without_power_is_warned_of(host, troubles):
    host.write(f"{DEVICE}/power_state", "D3cold")
    assert [one[:3] for one in troubles()] == [("health", WARNING, GPU)]


def test_an_integrated_device_has_no_link(host, troubles):
    for name, content in (
        ("current_link_speed", "Unknown"),
        ("current_link_width", "0"),
        ("max_link_speed", "Unknown"),
        ("max_link_width", "0"),
    ):
        for bus in ("c1", "c2", "01", "02"):
            host.write(f"/sys/bus/pci/devices/0000:{bus}:00.0/{name}", content)
    assert troubles() == []


@pytest.mark.parametrize(
    "row",
    [
        # Forgotten; the register still says what it is.
        NOTHING,
        # IORESOURCE_UNSET, size kept.
        "0x0000000000000000 0x0000001fffffffff 0x000000002014220c",
        # IORESOURCE_DISABLED.
        "0x0000380000000000 0x0000381fffffffff 0x000000001014220c",
        # "BAR1 is 0M @ 0x0".
        "0x0000000000000000 0x0000000000000000 0x000000000014220c",
        "0x0000000000000000 0xffffffffffffffff 0x000000000014220c",
        "0x0000000000000000 0x0000001fffffffff 0x000000000014220c",
    ],
)
def test_a_bar_without_an_address_is_an_error(host, troubles, row):
    host.write(f"{DEVICE}/resource", "\n".join((BAR0, row, NOTHING)))
    host.write(f"{DEVICE}/config", config(bars=(0xB7000000, 0xC)))
    found = [one for one in troubles() if one[0] == "bars"]
    ((_, severity, device, summary),) = found
    assert (severity, device) == (ERROR, GPU)
    assert "BAR1" in summary


def test_a_bar_that_the_peers_have_is_missed_without_a_register(
    host, troubles
):
    host.write(f"{DEVICE}/resource", "\n".join((BAR0, NOTHING)))
    summaries = [one[3] for one in troubles() if one[0] == "bars"]
    assert any("BAR1, BAR2 have no address" in one for one in summaries)


@pytest.mark.parametrize(
    ("bars", "rows"),
    [
        # The upper half of a BAR of 64 bits is no BAR.
        (
            (0xC, 0x38, 0, 0, 0, 0),
            [
                "0x0000380000000000 0x0000380fffffffff 0x000000000014220c",
                NOTHING,
            ],
        ),
        # I/O ports without a place do no harm, nor does the ROM.
        ((0xB7000000, 0, 0, 0, 0, 1), [BAR0]),
        (
            (0xB7000000,),
            [
                BAR0,
                *[NOTHING] * 5,
                "0x0000000000000000 0x000000000007ffff 0x0000000020046200",
            ],
        ),
        ((0xB7000000, 0, 0, 0, 0, 0), [BAR0, *[NOTHING] * 5]),
    ],
)
def test_what_is_no_memory_bar_is_not_missed(bars, rows):
    text = "\n".join(rows)
    found = list(pci_config.unassigned_bars(text, config(bars=bars)))
    assert found == []


def test_vfs_without_room_are_noted(host, troubles):
    rows = host.path(f"{DEVICE}/resource").read_text().splitlines()
    rows[7] = "0x0000000000000000 0x0000001fffffffff 0x000000002014220c"
    host.write(f"{DEVICE}/resource", "\n".join(rows))
    assert troubles() == []
    assert ("bars", NOTE, GPU) in [one[:3] for one in troubles(NOTE)]


@pytest.mark.parametrize(
    ("files", "severities"),
    [
        ({"current_link_width": "8"}, [WARNING]),
        ({"current_link_speed": "8.0 GT/s PCIe"}, [WARNING]),
        # As idle GPUs do.
        ({"current_link_speed": "2.5 GT/s PCIe"}, []),
    ],
)
def test_a_link_that_is_less_than_both_ends_can(
    host, troubles, files, severities
):
    for name, content in files.items():
        host.write(f"{DEVICE}/{name}", content)
    found = troubles()
    assert [one[1] for one in found] == severities
    assert {one[:1] for one in found} <= {("link",)}


def test_a_slot_that_can_no_more_is_no_fault(host, troubles):
    for bus, port in (
        ("c1", "c0:01.1"),
        ("c2", "c0:02.1"),
        ("01", "00:01.1"),
        ("02", "00:02.1"),
    ):
        host.write(f"/sys/bus/pci/devices/0000:{port}/max_link_width", "8")
        host.write(
            f"/sys/bus/pci/devices/0000:{bus}:00.0/current_link_width", "8"
        )
    assert troubles() == []


def test_the_link_of_a_switch_is_checked_as_well(build):
    host = build("hgx_h100")
    # The upstream port of the switch above the first two GPUs.
    bus = int("0f", 16) - 5 + 1
    host.write(
        f"/sys/bus/pci/devices/0000:{bus:02x}:00.0/current_link_width", "4"
    )
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    found = {
        one.device
        for one in readiness.check(context)
        if one.check == "link" and one.severity is WARNING
    }
    assert found == {"0000:0f:00.0", "0000:10:00.0"}


@pytest.mark.parametrize(
    ("place", "name", "text", "severities"),
    [
        (DEVICE, "fatal", "DLP 2\nTOTAL_ERR_FATAL 2", [WARNING]),
        (DEVICE, "nonfatal", "CmpltTO 1\nTOTAL_ERR_NONFATAL 1", [WARNING]),
        (PORT, "fatal", "SDES 1\nTOTAL_ERR_FATAL 1", [WARNING]),
        (DEVICE, "correctable", "RxErr 40000", [WARNING]),
        (DEVICE, "correctable", "RxErr 3", []),
        (DEVICE, "nonfatal", "UnsupReq 4\nTOTAL_ERR_NONFATAL 4", []),
        (DEVICE, "correctable", "NonFatalErr 4000", []),
    ],
)
def test_errors_of_the_link_are_counted(
    host, troubles, place, name, text, severities
):
    host.write(f"{place}/aer_dev_{name}", text)
    found = troubles()
    assert [(one[0], one[1], one[2]) for one in found] == [
        ("link", severity, GPU) for severity in severities
    ]


@pytest.mark.parametrize(
    ("port", "device", "severities"),
    [
        # The device that sent them was removed and found again.
        ({"fatal": 1}, {}, [WARNING]),
        ({"nonfatal": 3}, {}, [WARNING]),
        ({"cor": 100000}, {}, [WARNING]),
        ({"fatal": 1, "cor": 5000}, {}, [WARNING, WARNING]),
        # They are the device's, which tells them itself.
        ({"fatal": 2}, {"fatal": "DLP 2"}, [WARNING]),
        ({"fatal": 3}, {"fatal": "DLP 2"}, [WARNING, WARNING]),
        ({"cor": 40000}, {"correctable": "RxErr 40000"}, [WARNING]),
        # Probing, and what its receiver did not mind.
        ({"nonfatal": 4}, {"nonfatal": "UnsupReq 4"}, []),
        ({"cor": 4000}, {"correctable": "NonFatalErr 4000"}, []),
        ({"cor": 999}, {}, []),
        ({"fatal": 0, "nonfatal": 0, "cor": 0}, {}, []),
        ({"fatal": "", "cor": "x"}, {}, []),
        ({"fatal": "9" * 5000}, {}, []),
    ],
)
def test_errors_that_a_root_port_has_received_are_counted(
    host, troubles, port, device, severities
):
    for name, count in port.items():
        host.write(f"{PORT}/aer_rootport_total_err_{name}", count)
    for name, text in device.items():
        host.write(f"{DEVICE}/aer_dev_{name}", text)
    assert [one[:3] for one in troubles()] == [
        ("link", severity, GPU) for severity in severities
    ]


def test_errors_of_another_device_below_a_root_port_are_not_removed_ones(
    tmp_path,
):
    host = sysfs_trees.rtx_with_audio_and_usb(tmp_path)
    files = tree.Tree(str(host.root))
    root = "/sys/bus/pci/devices/0000:00:01.0"
    host.write(f"{root}/aer_rootport_total_err_nonfatal", 2)
    host.write(
        "/sys/bus/pci/devices/0000:01:00.1/aer_dev_nonfatal", "CmpltTO 2"
    )
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    assert [
        one for one in readiness.check(context) if one.check == "link"
    ] == []


def test_errors_of_a_disk_below_a_root_port_are_not_removed_ones(tmp_path):
    """It is in no inventory."""
    host = sysfs_trees.rtx_with_audio_and_usb(tmp_path)
    files = tree.Tree(str(host.root))
    root = "/sys/bus/pci/devices/0000:00:01.0"
    host.write(f"{root}/aer_rootport_total_err_nonfatal", 3)
    disk = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.7"
    host.write(f"{disk}/aer_dev_nonfatal", "UnsupReq 3")
    host.link("/sys/bus/pci/devices/0000:01:00.7", disk)
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    assert [
        one for one in readiness.check(context) if one.check == "link"
    ] == []


@pytest.mark.parametrize(
    ("where", "gpus"),
    [
        ("pci0000:c0/0000:c0:01.1", 2),  # root port
        ("pci0000:c0/0000:c0:01.1/0000:c1:00.0", 2),  # up from the switch
        ("pci0000:c0/0000:c0:01.1/0000:c1:00.0/0000:c2:01.0", 1),
    ],
)
def test_errors_above_a_pcie_switch_are_counted(tmp_path, where, gpus):
    host = sysfs_trees.Host(tmp_path)
    host.nodes(1)
    host.iommu("amd")
    host.switch(
        "pci0000:c0",
        "0000:c0:01.1",
        "0000:c1:00.0",
        ["0000:c2:00.0", "0000:c2:01.0"],
    )
    for bus, port in (("c3", "0000:c2:00.0"), ("c4", "0000:c2:01.0")):
        host.add(
            sysfs_trees.Pci(
                f"0000:{bus}:00.0",
                port,
                "10de:2bb5",
                0x030200,
                group=int(bus, 16),
                driver="vfio-pci",
            )
        )
    host.vfio_at_boot("10de:2bb5")
    host.write(f"/sys/devices/{where}/aer_dev_fatal", "DLP 2\n")
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    found = [one for one in readiness.check(context) if one.check == "link"]
    assert [one.severity for one in found] == [WARNING] * gpus
    assert all(where.rpartition("/")[2] in one.summary for one in found)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "resource",
            f"{BAR0}\n"
            "0x0000380000000000 0x000038000fffffff 0x000000000014220c\n"
            "0x0000390000000000 0x0000390001ffffff 0x0000000000040200",
            "BARs",
        ),
        ("sriov_totalvfs", "0", "the number of VFs"),
        ("reset_method", "bus", "ways to be reset"),
        ("max_link_width", "8", "the link that it can have"),
    ],
)
def test_a_device_that_differs_from_its_peers_is_warned_of(
    host, troubles, name, content, what
):
    host.write(f"{DEVICE}/{name}", content)
    found = [one for one in troubles() if one[0] == "peers"]
    assert [one[1:3] for one in found] == [(WARNING, GPU)]
    assert what in found[0][3]


def test_amd_instinct_as_whole_gpus_are_warned_of(build):
    files = tree.Tree(str(build("mi300x").root))
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    found = [one for one in readiness.check(context) if one.check == "reset"]
    assert {one.severity for one in found} == {WARNING}
    assert "GIM" in found[0].cures[0]


@pytest.mark.parametrize(
    ("ids", "name", "methods", "cure"),
    [
        ("1002:67c4", "Ellesmere [Radeon Pro WX 7100]", "bus", "vendor-reset"),
        ("1002:6860", "Vega 10 [Radeon Instinct MI25]", "bus", "vendor-reset"),
        ("1002:66a1", "Vega 20 [Radeon Instinct MI50]", "bus", "vendor-reset"),
        ("1002:7362", "Navi 12 [Radeon Pro V520]", "bus pm", "vendor-reset"),
        ("1002:7312", "Navi 10 [Radeon Pro W5700]", "bus", "vendor-reset"),
        ("1002:6860", "Vega 10 [MI25]", "device_specific bus", None),
        ("1002:75a3", "Aqua Vanjaram [Instinct MI355X]", "flr bus", "GIM"),
        ("1002:73a1", "Navi 21 [Radeon Pro V620]", "flr bus", None),
        ("1002:7448", "Navi 31 [Radeon Pro W7900]", "flr bus", None),
        ("1002:740f", "Aldebaran/MI200 [Instinct MI210]", "flr bus", None),
        ("10de:26b9", "AD102GL [L40S]", "flr bus", None),
    ],
)
def test_resets_that_do_not_work_are_known_by_the_chip(
    tmp_path, ids, name, methods, cure
):
    host = sysfs_trees.Host(tmp_path)
    host.iommu("amd")
    vendor, product = ids.split(":")
    host.write(
        "/usr/share/hwdata/pci.ids", f"{vendor}  Vendor\n\t{product}  {name}\n"
    )
    host.add(
        sysfs_trees.Pci(
            "0000:03:00.0",
            "pci0000:02",
            ids,
            0x030000,
            group=5,
            driver="vfio-pci",
            bars=(16 * GIB, 2 * MIB),
            reset=methods,
        )
    )
    host.vfio_at_boot(ids)
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory, linking.join(inventory))
    found = [one for one in readiness.check(context) if one.check == "reset"]
    assert len(found) == bool(cure)
    assert all(cure in one.cures[0] for one in found)
