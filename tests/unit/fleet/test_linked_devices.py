# SPDX-License-Identifier: Apache-2.0

"""The links of the devices of a host, and what is free of them."""

import pytest

from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology.links import Requirement
from tests import machines
from tests.unit.fleet import builders


def _linked(*args, **kwargs):
    return linked_devices.LinkedDevices.from_devices(
        builders.machine("a", *args, **kwargs).devices
    )


def test_links_come_from_traits():
    devices = _linked(machines.hgx_h100_partitions(), used=(0, 3))
    assert devices.topology.links == machines.hgx_h100_partitions().links
    assert devices.free == 0b11110110
    assert devices.problem is None
    assert devices.knows_links
    assert devices.list_addresses(0b11) == ("0000:1b:00.0", "0000:43:00.0")


def test_reserved_devices_are_not_free():
    assert _linked(used=(0,), reserved=(7,)).free == 0b01111110


def test_traits_that_cannot_be_read_leave_devices_without_links():
    devices = linked_devices.LinkedDevices.from_devices(
        [
            builders.device("a", 1, traits=("CUSTOM_GPU_LINK_WARP_1",)),
            builders.device("a", 2, traits=("CUSTOM_GPU_LINK_NV4_1",)),
        ]
    )
    assert "a_0000:01:00.0: gpu_links 'CUSTOM_GPU_LINK_WARP_1'" in str(
        devices.problem
    )
    assert not devices.knows_links
    assert devices.measure_largest_by_link() == {}


@pytest.mark.parametrize(
    ("topology", "used", "expected"),
    [
        (
            machines.hgx_h100_partitions(),
            (),
            {"fabric": 8, "nvlink": 8, "pix": 8, "node": 8},
        ),
        (
            machines.hgx_h100_partitions(),
            (0,),
            {"fabric": 4, "nvlink": 7, "pix": 7, "node": 7},
        ),
        (machines.bridge_pairs_h100_nvl(), (0, 2, 4), {"nvlink": 2}),
        (machines.pcie_pix_node_sys(), range(8), {"pix": 0, "node": 0}),
    ],
)
def test_the_largest_free_set_with_each_link(topology, used, expected):
    found = _linked(topology, used=used).measure_largest_by_link()
    assert expected.items() <= {k.value: v for k, v in found.items()}.items()


def test_a_link_that_no_pair_has_is_not_told():
    found = _linked(machines.pcie_pix_node_sys()).measure_largest_by_link()
    assert Requirement.NVLINK not in found
    assert Requirement.FABRIC not in found


def test_partitions_are_counted_by_size():
    assert _linked(used=(0,)).count_partitions() == {
        8: (0, 1),
        4: (1, 2),
        2: (3, 4),
        1: (7, 8),
    }


def test_fragmentation_is_that_of_the_weigher():
    topology = machines.hgx_h100_partitions()
    devices = _linked(topology, used=(0, 5))
    measure = fragmentation.build_measure(topology, fragmentation.DEFAULT_MIX)
    assert devices.measure_fragmentation() == measure.measure(devices.free)
    assert devices.measure_fragmentation() > 0
    assert devices.measure_fragmentation(((1, 1.0),)) == 0
