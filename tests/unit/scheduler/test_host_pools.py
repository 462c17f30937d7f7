# SPDX-License-Identifier: Apache-2.0

from nova import objects
from nova.pci import stats
import pytest

from nova_gpu_filter.scheduler import host_pools


class MyStats(stats.PciDeviceStats):
    pass


@pytest.fixture
def pci_stats():
    cells = [
        objects.NUMACell(id=0, socket=0),
        objects.NUMACell(id=1, socket=None),
    ]
    return stats.PciDeviceStats(objects.NUMATopology(cells=cells))


def test_only_plain_statistics_are_readable(pci_stats):
    assert host_pools.is_readable(pci_stats)
    assert not host_pools.is_readable(MyStats(pci_stats.numa_topology))
    assert not host_pools.is_readable(object())


def test_pools_are_not_copied(pci_stats):
    assert host_pools.from_pci_stats(pci_stats).pools is pci_stats.pools


def test_sockets_are_read_when_asked_for(pci_stats):
    assert host_pools.from_pci_stats(pci_stats).socket_by_numa_node == {}
    view = host_pools.from_pci_stats(pci_stats, with_sockets=True)
    assert view.socket_by_numa_node == {0: 0, 1: None}


def test_a_host_without_numa_topology_has_no_sockets():
    view = host_pools.from_pci_stats(stats.PciDeviceStats(None), True)
    assert view.socket_by_numa_node == {}
