# SPDX-License-Identifier: Apache-2.0

"""Flavors that ask for several vGPUs."""

import pytest

from nova_gpu_filter.fleet import lint
from nova_gpu_filter.fleet import model
from nova_gpu_filter.severity import Severity


@pytest.mark.parametrize(
    ("specs", "keys"),
    [
        ({"resources:VGPU": "1"}, []),
        ({"resources:VGPU": "0"}, []),
        ({"resources:VGPU": "2"}, ["resources:VGPU"]),
        ({"resources_A:VGPU": "4"}, ["resources_A:VGPU"]),
        ({"resources:VCPU": "2"}, []),
        ({"resources:CUSTOM_OTHER": "2"}, []),
        (
            {"resources1:VGPU": "1", "resources2:VGPU": "1"},
            ["group_policy"],
        ),
        (
            {
                "resources1:VGPU": "1",
                "resources2:VGPU": "1",
                "group_policy": "none",
            },
            ["group_policy"],
        ),
        (
            {
                "resources1:VGPU": "1",
                "resources2:VGPU": "1",
                "group_policy": "isolate",
            },
            [],
        ),
        (
            {"resources1:VGPU": "2", "resources2:VGPU": "1"},
            ["group_policy", "resources1:VGPU"],
        ),
    ],
)
def test_several_of_one_gpu_are_told(specs, keys):
    flavor = model.Flavor("v", 1, 1024, 1, specs)
    found = lint.check(lint.Question(flavor, {}, "nova.conf", []))
    asks = not specs.keys() & {"resources:VCPU", "resources:CUSTOM_OTHER"}
    if not asks or specs.get("resources:VGPU") == "0":
        assert [one.severity for one in found] == [Severity.NOTE]
        return
    assert sorted(one.key for one in found) == keys
    assert {one.severity for one in found} <= {Severity.WARNING}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"resources2:VGPU": "1"}, None),
        ({"resources2:VGPU": "1", "group_policy": "none"}, None),
        (
            {"resources2:VGPU": "1", "group_policy": "isolate"},
            "has no effect with group_policy=isolate",
        ),
        ({}, "has no effect without pci_passthrough:alias, or several"),
        ({"resources:VGPU": "1"}, "has no effect without pci_passthrough"),
    ],
)
def test_a_spread_without_a_choice_is_told(more, told):
    specs = {"resources1:VGPU": "1", "gpu:spread": "pack", **more}
    flavor = model.Flavor("v", 1, 1024, 1, specs)
    found = [
        one.text
        for one in lint.check(lint.Question(flavor, {}, "nova.conf", []))
        if one.key == "gpu:spread"
    ]
    assert len(found) == (told is not None)
    assert not found or told in found[0]
