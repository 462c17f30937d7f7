# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import pci_config
from tests.unit.host.health.checking import BAR0
from tests.unit.host.health.checking import DEVICE
from tests.unit.host.health.checking import GPU

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
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
    found = list(pci_config.list_unassigned_bars(text, config(bars=bars)))
    assert found == []


def test_vfs_without_room_are_noted(host, troubles):
    rows = host.path(f"{DEVICE}/resource").read_text().splitlines()
    rows[7] = "0x0000000000000000 0x0000001fffffffff 0x000000002014220c"
    host.write(f"{DEVICE}/resource", "\n".join(rows))
    assert troubles() == []
    assert ("bars", NOTE, GPU) in [one[:3] for one in troubles(NOTE)]
