# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import host_topologies
from tests import machines

ADDRESSES = [f"0000:{bus:02x}:00.0" for bus in range(0x10, 0x90, 8)]

every_machine = pytest.mark.parametrize(
    "machine",
    machines.MACHINES_OF_8 + machines.MACHINES_OF_16,
    ids=lambda machine: machine.__name__,
)


@every_machine
def test_pools_of_a_whole_host_give_its_topology(machine):
    host = machine()
    devices = [
        (ADDRESSES[i], codec.format_text(mine) or None, host.numa[i])
        for i, mine in enumerate(groups.decompose(host))
    ]
    assert host_topologies.build_from_pools(devices) == host


@every_machine
def test_traits_of_a_provider_tree_give_its_links_and_partitions(machine):
    host = machine()
    devices = [
        (ADDRESSES[i], {"HW_GPU_API_CUDA", *codec.format_traits(mine)}, None)
        for i, mine in enumerate(groups.decompose(host))
    ]
    found = host_topologies.build_from_traits(devices)
    assert found.links == host.links
    assert found.partitions == host.partitions


def test_hosts_of_a_kind_share_one_topology_whatever_their_addresses():
    first = host_topologies.build_from_pools(
        [("a", "nv18:0", 0), ("b", "nv18:0", 0)]
    )
    second = host_topologies.build_from_pools(
        [("c", "nv18:0", 0), ("d", "nv18:0", 0)]
    )
    assert first is second
    traits = ["CUSTOM_GPU_LINK_NV18_0"]
    first = host_topologies.build_from_traits(
        [("a", traits, 0), ("b", {*traits, "X"}, 0)]
    )
    second = host_topologies.build_from_traits(
        [("c", traits, 0), ("d", traits, 0)]
    )
    assert first is second


def test_devices_without_tags_are_linked_by_their_numa_nodes():
    host = host_topologies.build_from_pools(
        [("a", None, 0), ("b", None, 0), ("c", None, 1)]
    )
    assert host == machines.nested(3, ("NODE", [(0, 1)]), numa=(0, 0, 1))


def test_a_host_without_devices_is_no_error():
    assert (
        host_topologies.build_from_pools([]).n
        == host_topologies.build_from_traits([]).n
        == 0
    )


@pytest.mark.parametrize(
    ("make", "good", "bad"),
    [
        (host_topologies.build_from_pools, "nv18:0", "nv18"),
        (
            host_topologies.build_from_traits,
            ["CUSTOM_GPU_LINK_NV18_0"],
            ["CUSTOM_GPU_LINK_NV18"],
        ),
    ],
)
def test_errors_name_the_device_of_this_host(make, good, bad):
    for bus in ("0f", "1f"):
        with pytest.raises(codec.LinkTextError, match=f"^0000:{bus}:00.0: "):
            make(
                [("0000:01:00.0", good, None), (f"0000:{bus}:00.0", bad, None)]
            )
