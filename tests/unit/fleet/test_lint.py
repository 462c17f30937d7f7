# SPDX-License-Identifier: Apache-2.0

"""What is wrong with a flavor for GPUs."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import lint
from nova_gpu_filter.fleet import model
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet import linting
from tests.unit.fleet.linting import check
from tests.unit.fleet.test_capacity import ALIASES
from tests.unit.fleet.test_capacity import flavor


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
    assert check(asked) == []


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
    (found,) = check(asked)
    assert found[:2] == (severity, key)
    assert found[2].startswith(text)


def test_a_host_without_partitions_is_told():
    ((severity, key, text),) = check(
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
    found = check(
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
    assert check(asked, machines.pcie_pix_node_sys()) == []
    asked["gpu__link"] = "nvlink"
    keys = [key for _, key, _ in check(asked, machines.pcie_pix_node_sys())]
    assert keys == ["gpu:link", "hw:pci_numa_affinity_policy"]


@pytest.mark.parametrize(
    ("name", "specs", "image", "is_found"),
    [
        ("GeForce RTX 4090", {}, linting.GOOD_IMAGE, True),
        ("GeForce RTX 4090", {"hide_hypervisor_id": "true"}, None, False),
        ("GeForce RTX 4090", {"hw__hide_hypervisor_id": "1"}, None, False),
        (
            "GeForce RTX 4090",
            {},
            {**linting.GOOD_IMAGE, "img_hide_hypervisor_id": "true"},
            False,
        ),
        ("GeForce RTX 4090", {"hide_hypervisor_id": "no"}, None, True),
        ("GRID K2", {}, None, False),
    ],
)
def test_consumer_cards_want_a_hidden_hypervisor(name, specs, image, is_found):
    found = check({"devices": "h100:1", **specs}, name=name, image=image)
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


def test_errors_come_first():
    found = check(
        {"devices": "h100:9", "resources__CUSTOM_GPU_H100": "9"},
        bars=129 * linting.GIB,
        image={},
    )
    severities = [severity for severity, _, _ in found]
    assert severities == ["error", "error", "warning", "warning", "warning"]


def test_without_any_host_the_flavor_alone_is_checked():
    question = lint.Question(
        model.Flavor("f", 1, 1, 1, {"pci_passthrough:alias": "h100:99"}),
        ALIASES,
        "nova.conf",
    )
    assert [f.key for f in lint.check(question)] == ["hw:maxphysaddr_bits"]


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
