# SPDX-License-Identifier: Apache-2.0

"""The address space of a guest, and what its devices take of it."""

import pytest

from nova_gpu_filter.fleet import guest_memory
from nova_gpu_filter.fleet import lint
from nova_gpu_filter.severity import Severity
from tests.unit.fleet import builders
from tests.unit.fleet.linting import GIB
from tests.unit.fleet.linting import GOOD_IMAGE
from tests.unit.fleet.linting import check
from tests.unit.fleet.test_capacity import ALIASES
from tests.unit.fleet.test_capacity import flavor


@pytest.mark.parametrize(
    ("bars", "ram", "bits"),
    [
        (1, 1, 36),
        (32 * GIB, 32 * GIB, 36),
        (32 * GIB, 33 * GIB, 37),
        (32 * GIB, 900 * GIB, 40),
        # 40 bits are not believed: an eighth of them would be enough.
        (33 * GIB, 32 * GIB, 41),
        (256 * GIB, 1791 * GIB, 41),
        (256 * GIB, 1792 * GIB, 42),
        (257 * GIB, 512 * GIB, 42),
        (1025 * GIB, 2048 * GIB, 44),
        (1 << 60, 1, 52),
    ],
)
def test_the_address_width_that_devices_need(bars, ram, bits):
    assert guest_memory.count_needed_bits(bars, ram) == bits


@pytest.mark.parametrize(
    ("specs", "severity", "key", "text"),
    [
        (
            {},
            "warning",
            "hw:maxphysaddr_mode",
            "which needs 44 bits; guests have 40 as a rule: set"
            " hw:maxphysaddr_mode=passthrough, or emulate with"
            " hw:maxphysaddr_bits=44",
        ),
        (
            {"hw__maxphysaddr_mode": "emulate", "hw__maxphysaddr_bits": "42"},
            "error",
            "hw:maxphysaddr_bits",
            "which needs 44 bits; guests have 42: set",
        ),
        (
            {"hw__maxphysaddr_mode": "passthrough"},
            "note",
            "hw:maxphysaddr_mode",
            "with passthrough guests have those of the host's CPU",
        ),
    ],
)
def test_large_bars_need_a_wide_address_space(specs, severity, key, text):
    asked = {"devices": "h100:8", **specs}
    ((found, about, says),) = check(asked, bars=129 * GIB)
    assert (found, about) == (severity, key)
    assert says.startswith(
        "the BARs of its devices take 1 TiB beside 1 GiB of memory"
    )
    assert text in says


@pytest.mark.parametrize(
    ("image", "keys"),
    [
        (GOOD_IMAGE, []),
        ({}, ["hw_firmware_type", "hw_machine_type"]),
        ({"hw_firmware_type": "bios", "hw_machine_type": "q35"}, 1),
        (None, ["hw_firmware_type"]),
    ],
)
def test_large_bars_need_firmware_and_machine(image, keys):
    found = check(
        {
            "devices": "h100:1",
            "hw__maxphysaddr_mode": "emulate",
            "hw__maxphysaddr_bits": "46",
        },
        bars=129 * GIB,
        image=image,
    )
    if keys == 1:
        assert found == [
            (
                "warning",
                "hw_firmware_type",
                "bios: set uefi on the image; a BIOS may leave large BARs"
                " unmapped",
            )
        ]
    else:
        assert [key for _, key, _ in found] == keys


def test_bits_that_suffice_are_not_told():
    asked = {
        "devices": "h100:8",
        "hw__maxphysaddr_mode": "emulate",
        "hw__maxphysaddr_bits": "44",
    }
    assert check(asked, bars=129 * GIB) == []


def test_without_inventories_the_address_space_is_not_known():
    host = builders.machine("a")
    question = lint.Question(flavor(), ALIASES, "nova.conf", [host])
    ((found),) = lint.check(question)
    assert found.severity is Severity.NOTE
    assert found.text.startswith("how much address space h100 takes is not")
