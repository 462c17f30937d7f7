# SPDX-License-Identifier: Apache-2.0

from nova.pci import stats
import pytest

from nova_gpu_filter.scheduler import host_pools


class MyStats(stats.PciDeviceStats):
    pass


@pytest.fixture
def pci_stats():
    return stats.PciDeviceStats(None)


def test_only_plain_statistics_are_readable(pci_stats):
    assert host_pools.is_readable(pci_stats)
    assert not host_pools.is_readable(MyStats(None))
    assert not host_pools.is_readable(object())


def test_pools_are_not_copied(pci_stats):
    assert host_pools.read_pci_stats(pci_stats).pools is pci_stats.pools
