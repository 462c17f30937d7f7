# SPDX-License-Identifier: Apache-2.0

"""What can be had of a device, and what it is called."""

import dataclasses

import os_traits
import pytest

from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec
from tests.unit.fleet import builders


@pytest.mark.parametrize(
    ("capacity", "used", "state", "is_free"),
    [
        (1, 0, "free", True),
        (1, 1, "used", False),
        # After its one-time use nova-compute reserves a device.
        (0, 1, "used", False),
        (0, 0, "reserved", False),
        (4, 1, "partly used", True),
        (4, 4, "used", False),
        (1, 2, "used", False),
    ],
)
def test_the_state_of_a_device(capacity, used, state, is_free):
    device = builders.device("a", 1, used=used, capacity=capacity)
    assert (device.state.value, device.is_free) == (state, is_free)


def test_a_provider_without_inventory_is_a_device_without_class():
    device = builders.device("a", 1, resource_class=None, capacity=0)
    assert device.state is model.State.NO_INVENTORY
    assert not device.is_free


@pytest.mark.parametrize(
    ("resource_class", "traits", "expected"),
    [
        ("CUSTOM_PCI_10DE_2330", (), "10de:2330"),
        ("CUSTOM_GPU_H100", (), "GPU_H100"),
        ("PGPU", (), "PGPU"),
        (
            "CUSTOM_BIG",
            ("CUSTOM_A", "CUSTOM_GPU_MODEL_H100_SXM5_80GB"),
            "H100 SXM5 80GB",
        ),
        (None, (), ""),
    ],
)
def test_the_model_is_what_placement_tells(resource_class, traits, expected):
    device = builders.device(
        "a", 1, resource_class=resource_class, traits=traits
    )
    assert device.model == expected


def test_links_are_told_as_the_tag_has_them():
    device = builders.device(
        "a", 1, traits=("CUSTOM_GPU_LINK_NV18_0", "CUSTOM_GPU_FABRIC_0_8")
    )
    assert device.links == "nv18:0,fabric:0/8"
    bad = dataclasses.replace(
        device, traits=frozenset({"CUSTOM_GPU_LINK_WARP_1"})
    )
    with pytest.raises(codec.LinkTextError, match="a_0000:01:00"):
        _ = bad.links


def test_the_devices_of_an_alias_have_its_class_and_traits():
    host = builders.host(
        "a",
        [
            builders.device("a", 1, traits=("CUSTOM_X",)),
            builders.device("a", 2),
            builders.device("a", 3, resource_class="CUSTOM_NIC"),
            builders.device("a", 4, resource_class=None),
        ],
    )
    assert host.resource_classes == (builders.H100, "CUSTOM_NIC")
    assert [d.address for d in host.list_devices(builders.H100)] == [
        "0000:01:00.0",
        "0000:02:00.0",
    ]
    assert [
        d.address for d in host.list_devices(builders.H100, ("CUSTOM_X",))
    ] == ["0000:01:00.0"]


@pytest.mark.parametrize(
    ("traits", "expected"),
    [((), False), ((os_traits.COMPUTE_STATUS_DISABLED,), True)],
)
def test_a_trait_tells_that_a_host_is_disabled(traits, expected):
    assert builders.host("a", [], traits).is_disabled is expected
