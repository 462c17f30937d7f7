# SPDX-License-Identifier: Apache-2.0

"""Faults of the allocator that Kubernetes uses, which must not be ours.

NVIDIA/go-gpuallocator, gpuallocator/besteffort_policy.go at 876e7b7: it scores
a choice by how well the other GPUs would serve more requests of the same size.
"""

import pytest

from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology.topology import make_mask
from tests import machines


def firsts(topology, free, k, mix=((1, 0.4), (2, 0.2), (4, 0.2), (8, 0.2))):
    ranking = choice.rank_device_sets(topology, free, k, None, mix)
    return set(next(ranking.generate_tiers()).sets)


def test_future_requests_may_have_another_size():
    """For more pairs any PIX pair would do; for fours it matters which."""
    topology = machines.pcie_pix_node_sys()
    free = 0b11111100
    assert firsts(topology, free, 2) == {0b00001100}
    assert firsts(topology, free, 2, mix=((2, 1.0),)) == {
        0b00001100,
        0b00110000,
        0b11000000,
    }


@pytest.mark.parametrize("k", range(1, 9))
def test_each_set_has_as_many_devices_as_were_asked_for(k):
    """Padding to equal parts made some sets too small."""
    topology = machines.uneven_numa()
    for free in range(256):
        ranking = choice.rank_device_sets(topology, free, k)
        sets = ranking.list_best_first(seed=1)
        assert bool(sets) == (free.bit_count() >= k)
        assert {mask.bit_count() for mask in sets} <= {k}
        assert {mask.bit_count() for mask in ranking.list_diverse(seed=1)} <= {
            k
        }


def test_one_gpu_is_not_just_any():
    topology = machines.bridge_pairs_h100_nvl()
    assert firsts(topology, 0b11110111, 1) == {0b00000100}
    assert firsts(topology, 0b11010111, 1) == {0b00000100, 0b00010000}


def test_gpus_that_no_driver_sees_have_links_all_the_same():
    """Devices bound to vfio-pci are unknown to NVML; tags are enough."""
    topology = host_topologies.build_from_pools(
        [
            ("0000:0f:00.0", "nv12:0", 0),
            ("0000:10:00.0", "nv12:1", 0),
            ("0000:11:00.0", "nv12:0", 0),
        ]
    )
    assert firsts(topology, 0b111, 2) == {0b101}


def test_three_of_sixteen_are_560_sets_and_not_millions_of_partitions():
    topology = machines.pcie_16_switches()
    ranking = choice.rank_device_sets(topology, topology.everything, 3)
    assert ranking.exact
    assert len(ranking.list_best_first(seed=1)) == 560 < enumeration.MAX_SETS
    assert ranking.list_best_first(seed=1, limit=1)[0] in {
        make_mask(range(start, start + 4)) ^ 1 << device
        for start in range(0, 16, 4)
        for device in range(start, start + 4)
    }
