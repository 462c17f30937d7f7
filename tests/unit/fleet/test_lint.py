# SPDX-License-Identifier: Apache-2.0

"""What is wrong with a flavor for GPUs."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import guest_memory
from nova_gpu_filter.fleet import lint
from nova_gpu_filter.fleet import model
from nova_gpu_filter.severity import Severity
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import ALIASES
from tests.unit.fleet.test_capacity import flavor

GIB = 1 << 30
HGX = machines.hgx_h100_partitions()
GOOD_IMAGE = {"hw_firmware_type": "uefi", "hw_machine_type": "pc-q35-9.0"}


def _check(asked, topology=HGX, bars=0, image=GOOD_IMAGE, name=None):
    host = builders.machine("a", topology, used=range(8))
    question = lint.Question(
        flavor(**asked),
        ALIASES,
        "nova.conf",
        [host],
        {d.uuid: guest_memory.Product(name, bars) for d in host.devices},
        image,
    )
    return [(f.severity.value, f.key, f.text) for f in lint.check(question)]


@pytest.mark.parametrize(
    "asked",
    [
        {"devices": "h100:1"},
        {"devices": "h100:4", "gpu__link": "fabric"},
        {"devices": "h100:8", "gpu__link": "nvlink"},
        {"devices": "h100:2", "hw__numa_nodes": "1"},
        {"devices": "h100:1", "resources__VCPU": "0"},
    ],
)
def test_a_good_flavor_has_no_findings(asked):
    assert _check(asked) == []


_ALIAS = "pci_passthrough:alias"


@pytest.mark.parametrize(
    ("asked", "severity", "key", "text"),
    [
        ({"devices": ""}, "note", _ALIAS, "the flavor asks for no device"),
        (
            {"devices": "", "gpu__link": "pix"},
            "warning",
            "gpu:link",
            "has no effect without pci_passthrough:alias",
        ),
        (
            {"devices": "h100"},
            "error",
            _ALIAS,
            "flavor f: pci_passthrough:alias = 'h100': 'h100' is not",
        ),
        (
            {"devices": "x:1"},
            "error",
            _ALIAS,
            "flavor f asks for alias x, which is not in nova.conf:",
        ),
        (
            {"devices": "h100:9"},
            "error",
            _ALIAS,
            "h100:9, but no host has more than 8 CUSTOM_GPU_H100",
        ),
        (
            {"devices": "h100:1", "gpu__link": "warp"},
            "error",
            "gpu:link",
            "flavor f: gpu:link = 'warp': must be one of",
        ),
        (
            {"devices": "h100:3", "gpu__link": "fabric"},
            "error",
            "gpu:link",
            "no host has 3 h100 with fabric, even with all of them free;"
            " fabric partitions have 1, 2, 4, 8 devices",
        ),
        (
            {
                "devices": "h100:3",
                "gpu__link": "fabric",
                "gpu__link_policy": "preferred",
            },
            "warning",
            "gpu:link",
            "no host has 3 h100 with fabric",
        ),
        (
            {"devices": "h100:1", "gpu__link": "nvlink"},
            "note",
            "gpu:link",
            "one h100 has no links: every device will do",
        ),
        (
            {"devices": "h100:2", "resources__CUSTOM_GPU_H100": "2"},
            "error",
            "resources:CUSTOM_GPU_H100",
            "alias h100 asks for CUSTOM_GPU_H100 as well",
        ),
        (
            {"devices": "h100:2", "resources_gpu__CUSTOM_GPU_H100": "2"},
            "error",
            "resources_gpu:CUSTOM_GPU_H100",
            "alias h100 asks for CUSTOM_GPU_H100 as well",
        ),
    ],
)
def test_findings_about_devices_and_links(asked, severity, key, text):
    (found,) = _check(asked)
    assert found[:2] == (severity, key)
    assert found[2].startswith(text)


def test_a_host_without_partitions_is_told():
    ((severity, key, text),) = _check(
        {"devices": "h100:2", "gpu__link": "fabric"}, machines.hgx_h100()
    )
    assert (severity, key) == ("error", "gpu:link")
    assert text.endswith("; no host has fabric partitions")


@pytest.mark.parametrize(
    ("specs", "count", "is_error"),
    [
        ({"hw__numa_nodes": "1"}, 4, False),
        ({"hw__numa_nodes": "1"}, 5, True),
        ({"hw__numa_nodes": "2"}, 8, False),
        ({"hw__cpu_policy": "dedicated"}, 5, True),
        ({"hw__mem_page_size": "large"}, 5, True),
        ({}, 5, False),
    ],
)
def test_required_numa_nodes_may_be_too_small(specs, count, is_error):
    found = _check(
        {
            "devices": f"h100:{count}",
            "hw__pci_numa_affinity_policy": "required",
            **specs,
        },
        machines.pcie_pix_node_sys(),
    )
    if not is_error:
        assert found == []
        return
    ((severity, key, text),) = found
    assert (severity, key) == ("error", "hw:pci_numa_affinity_policy")
    assert text.startswith(
        f"required, with 1 guest NUMA node: no host has {count} h100 on so few"
    )


def test_the_numa_policy_counts_with_the_link_policy():
    asked = {
        "devices": "h100:2",
        "gpu__link": "node",
        "hw__numa_nodes": "1",
        "hw__pci_numa_affinity_policy": "required",
    }
    assert _check(asked, machines.pcie_pix_node_sys()) == []
    asked["gpu__link"] = "nvlink"
    keys = [key for _, key, _ in _check(asked, machines.pcie_pix_node_sys())]
    assert keys == ["gpu:link", "hw:pci_numa_affinity_policy"]


@pytest.mark.parametrize(
    ("name", "specs", "image", "is_found"),
    [
        ("GeForce RTX 4090", {}, GOOD_IMAGE, True),
        ("GeForce RTX 4090", {"hide_hypervisor_id": "true"}, None, False),
        ("GeForce RTX 4090", {"hw__hide_hypervisor_id": "1"}, None, False),
        (
            "GeForce RTX 4090",
            {},
            {**GOOD_IMAGE, "img_hide_hypervisor_id": "true"},
            False,
        ),
        ("GeForce RTX 4090", {"hide_hypervisor_id": "no"}, None, True),
        ("GRID K2", {}, None, False),
    ],
)
def test_consumer_cards_want_a_hidden_hypervisor(name, specs, image, is_found):
    found = _check({"devices": "h100:1", **specs}, name=name, image=image)
    keys = [key for _, key, _ in found]
    assert ("hw:hide_hypervisor_id" in keys) is is_found


def test_a_trait_of_the_model_tells_a_consumer_card():
    device = builders.device(
        "a", 1, traits=("CUSTOM_GPU_MODEL_GEFORCE_RTX_4090",)
    )
    question = lint.Question(
        flavor(), ALIASES, "nova.conf", [builders.host("a", [device])]
    )
    assert [f.key for f in lint.check(question)] == [
        "hw:hide_hypervisor_id",
        "hw:maxphysaddr_bits",
    ]


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
    ((found, about, says),) = _check(asked, bars=129 * GIB)
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
    found = _check(
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
    assert _check(asked, bars=129 * GIB) == []


def test_errors_come_first():
    found = _check(
        {"devices": "h100:9", "resources__CUSTOM_GPU_H100": "9"},
        bars=129 * GIB,
        image={},
    )
    severities = [severity for severity, _, _ in found]
    assert severities == ["error", "error", "warning", "warning", "warning"]


def test_without_inventories_the_address_space_is_not_known():
    host = builders.machine("a")
    question = lint.Question(flavor(), ALIASES, "nova.conf", [host])
    ((found),) = lint.check(question)
    assert found.severity is Severity.NOTE
    assert found.text.startswith("how much address space h100 takes is not")


def test_without_any_host_the_flavor_alone_is_checked():
    question = lint.Question(
        model.Flavor("f", 1, 1, 1, {"pci_passthrough:alias": "h100:99"}),
        ALIASES,
        "nova.conf",
    )
    assert [f.key for f in lint.check(question)] == ["hw:maxphysaddr_bits"]


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
    found = _check({"devices": "h100:1"} | asked, image=GOOD_IMAGE | image)
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
    assert _check(asked) == []


def test_encrypted_memory_without_devices_is_no_matter():
    (found,) = _check({"devices": "", "hw__mem_encryption": "true"})
    assert found[1] == "pci_passthrough:alias"


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        # No host says anything of graphics: not known.
        ([(), ()], []),
        ([("VIRTIO",), ("VIRTIO", "VGA")], []),
        ([("VIRTIO",), ("VGA",)], ["note"]),
        ([("VGA",), ("VGA", "QXL")], ["error"]),
        ([("VIRTIO",), ()], []),
    ],
)
def test_graphics_of_an_image_are_compared_with_what_hosts_have(
    reported, expected
):
    prefix = "COMPUTE_GRAPHICS_MODEL_"
    hosts = [
        dataclasses.replace(
            builders.machine(f"host{number}"),
            traits=frozenset(prefix + name for name in names),
        )
        for number, names in enumerate(reported)
    ]
    question = lint.Question(
        model.Flavor("f", 1, 1, 1, {}),
        {},
        "",
        hosts,
        image={"hw_video_model": "virtio"},
    )
    found = [
        problem.severity.value
        for problem in lint.check(question)
        if problem.key == "hw_video_model"
    ]
    assert found == expected
