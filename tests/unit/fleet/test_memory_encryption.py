# SPDX-License-Identifier: Apache-2.0

"""Devices and guests with encrypted memory."""

import pytest

from tests.unit.fleet.linting import GOOD_IMAGE
from tests.unit.fleet.linting import check


@pytest.mark.parametrize(
    ("asked", "image", "severity", "key"),
    [
        ({"hw__mem_encryption": "true"}, {}, "error", "hw:mem_encryption"),
        (
            {
                "hw__mem_encryption": "1",
                "hw__mem_encryption_model": "amd-sev-snp",
            },
            {},
            "error",
            "hw:mem_encryption",
        ),
        (
            {
                "hw__mem_encryption": "yes",
                "hw__mem_encryption_model": "intel-tdx",
            },
            {},
            "warning",
            "hw:mem_encryption",
        ),
        (
            {},
            {
                "hw_mem_encryption": "True",
                "hw_mem_encryption_model": "amd-sev-es",
            },
            "error",
            "hw_mem_encryption",
        ),
        (
            {"hw__mem_encryption": "true", "hw__mem_encryption_model": "sgx"},
            {},
            "error",
            "hw:mem_encryption_model",
        ),
    ],
)
def test_devices_and_encrypted_memory_exclude_each_other(
    asked, image, severity, key
):
    found = check({"devices": "h100:1"} | asked, image=GOOD_IMAGE | image)
    assert [one[:2] for one in found] == [(severity, key)]


@pytest.mark.parametrize(
    "asked",
    [
        {"devices": "h100:1", "hw__mem_encryption": "false"},
        # Without the other it has no effect.
        {"devices": "h100:1", "hw__mem_encryption_model": "amd-sev-snp"},
    ],
)
def test_memory_that_is_not_encrypted_is_no_matter(asked):
    assert check(asked) == []


def test_encrypted_memory_without_devices_is_no_matter():
    (found,) = check({"devices": "", "hw__mem_encryption": "true"})
    assert found[1] == "pci_passthrough:alias"
