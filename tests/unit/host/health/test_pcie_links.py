# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks.findings import Severity
from tests import sysfs_trees
from tests.unit.host.health.checking import DEVICE
from tests.unit.host.health.checking import GPU
from tests.unit.host.health.checking import check_host

WARNING = Severity.WARNING
PORT = "/sys/bus/pci/devices/0000:c0:01.1"


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
    found = {
        one.device
        for one in check_host(host)
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
    root = "/sys/bus/pci/devices/0000:00:01.0"
    host.write(f"{root}/aer_rootport_total_err_nonfatal", 2)
    host.write(
        "/sys/bus/pci/devices/0000:01:00.1/aer_dev_nonfatal", "CmpltTO 2"
    )
    assert [one for one in check_host(host) if one.check == "link"] == []


def test_errors_of_a_disk_below_a_root_port_are_not_removed_ones(tmp_path):
    """It is in no inventory."""
    host = sysfs_trees.rtx_with_audio_and_usb(tmp_path)
    root = "/sys/bus/pci/devices/0000:00:01.0"
    host.write(f"{root}/aer_rootport_total_err_nonfatal", 3)
    disk = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.7"
    host.write(f"{disk}/aer_dev_nonfatal", "UnsupReq 3")
    host.link("/sys/bus/pci/devices/0000:01:00.7", disk)
    assert [one for one in check_host(host) if one.check == "link"] == []


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
    found = [one for one in check_host(host) if one.check == "link"]
    assert [one.severity for one in found] == [WARNING] * gpus
    assert all(where.rpartition("/")[2] in one.summary for one in found)
