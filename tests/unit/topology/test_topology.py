# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices
from nova_gpu_filter.topology.topology import make_mask
from tests import machines


def test_hosts_of_a_kind_are_one_key():
    assert machines.dgx1_v100() == machines.dgx1_v100()
    assert len({machines.hgx_h100(), machines.hgx_h200()}) == 1
    kinds = {machine() for machine in machines.MACHINES_OF_8}
    assert len(kinds) == len(machines.MACHINES_OF_8)


def test_topology_cannot_be_changed():
    with pytest.raises(AttributeError):
        machines.dgx1_v100().links = ()


def test_sets_are_masks():
    assert list_devices(0b10010) == [1, 4]
    assert make_mask([4, 1]) == 0b10010
    assert list_devices(0) == []


def test_host_without_devices_is_a_topology():
    empty = Topology.from_matrix([])
    assert (empty.n, empty.everything, empty.levels) == (0, 0, ())


def test_weakest_link_and_sum_of_a_set():
    host = machines.dgx1_v100()
    assert links.name(host.find_weakest_link(make_mask((0, 1, 2, 3)))) == "NV1"
    assert links.name(host.find_weakest_link(make_mask((0, 1, 2, 4)))) == "SYS"
    assert host.find_weakest_link(1) == links.SELF
    assert host.sum_links(make_mask((0, 3, 4))) == 2 * links.make_nvlink(2)


def test_devices_are_grouped_by_known_numa_nodes():
    host = machines.nested(4, numa=(7, 1, None, 1))
    assert host.group_by_numa_node() == {1: 0b1010, 7: 0b0001}
    assert list(host.group_by_numa_node()) == [1, 7]


SYS = links.SYS
SELF = links.SELF


@pytest.mark.parametrize(
    ("matrix", "partitions", "numa", "message"),
    [
        (((SELF, SYS),), (), (0,), "not square"),
        (((SELF, SYS), (Link(1), SELF)), (), (0, 0), "differ by direction"),
        (((SYS,),), (), (0,), "diagonal"),
        (((SELF,),), (), (), "0 NUMA nodes, 1 devices"),
        (((SELF,),), (FabricPartition(0, 1, 2),), (0,), "unknown devices"),
        (((SELF,),), (FabricPartition(0, 1, 0),), (0,), "names no"),
        (((SELF,),), (FabricPartition(0, 0, 1),), (0,), "more devices than"),
    ],
)
def test_impossible_hosts_are_errors(matrix, partitions, numa, message):
    with pytest.raises(ValueError, match=message):
        Topology(matrix, partitions, numa, matrix)


@pytest.mark.parametrize(
    ("link", "way"), [("NV4", "NV2"), ("PIX", "NODE"), ("SYS", "PIX")]
)
def test_a_pair_without_direct_link_has_one_way(link, way):
    def matrix(name):
        between = links.parse(name)
        return ((SELF, between), (between, SELF))

    with pytest.raises(ValueError, match=f"0, 1 has {link}, but over PCIe"):
        Topology(matrix(link), (), (0, 0), matrix(way))


@pytest.mark.parametrize(
    "numa", [(0, 0, 1, 1), (None,) * 4, (0, 0, None, None)]
)
def test_numa_nodes_are_also_told_by_ways_over_pcie(numa):
    told = machines.hgx_h100().ways[2:6]
    host = Topology.from_matrix(
        [[links.make_nvlink(4)] * 4] * 4,
        numa=numa,
        ways=[row[2:6] for row in told],
    )
    assert host.list_local_masks() == [0b0011, 0b1100]
