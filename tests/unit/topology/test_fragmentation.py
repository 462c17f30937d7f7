# SPDX-License-Identifier: Apache-2.0

import itertools
import random

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from tests import machines
from tests.unit.topology import reference


def _usable(topology, free, k):
    packed = packing.pack_by_default(topology, k)
    return 0 if packed is None else packed.count(free)


by_name = pytest.mark.parametrize(
    "machine", machines.MACHINES_OF_8, ids=lambda machine: machine.__name__
)


@by_name
def test_usable_sets_of_every_mask_are_those_of_brute_force(machine):
    topology = machine()
    for free in range(1 << topology.n):
        for k in range(1, topology.n + 2):
            assert _usable(topology, free, k) == reference.usable(
                topology, free, k
            )


@by_name
def test_packing_is_disjoint_good_and_complete(machine):
    topology = machine()
    for free in random.Random(4).sample(range(1 << topology.n), 16):
        for k in range(1, topology.n + 1):
            packed = packing.pack_by_default(topology, k)
            sets = packed.list_sets(free)
            assert set(sets) <= set(reference.good_sets(topology, k))
            assert sum(sets) & ~free == 0
            assert sum(mask.bit_count() for mask in sets) == k * len(sets)
            assert sum(sets).bit_count() == k * len(sets)
            assert len(sets) == reference.usable(topology, free, k)


@pytest.mark.parametrize("machine", machines.MACHINES_OF_16)
def test_usable_sets_of_16_are_those_of_brute_force(machine):
    topology = machine()
    rng = random.Random(5)
    for k in (1, 2, 3, 4, 8):
        free = rng.getrandbits(16) & rng.getrandbits(16)
        assert _usable(topology, free, k) == reference.usable(
            topology, free, k
        )


@settings(deadline=None)
@given(
    masks=st.lists(
        st.sampled_from(list(reference.sets_of(255, 3))),
        min_size=1,
        max_size=8,
    ),
    free=st.integers(0, 255),
)
def test_partitions_that_overlap_are_counted_exactly(masks, free):
    topology = Topology.from_matrix(
        [[links.make_nvlink(1)] * 8] * 8,
        [FabricPartition(id_, 3, mask) for id_, mask in enumerate(masks)],
    )
    most = max(
        number
        for number in range(len(masks) + 1)
        for chosen in itertools.combinations(masks, number)
        if not any(mask & ~free for mask in chosen)
        and not any(a & b for a, b in itertools.combinations(chosen, 2))
    )
    assert _usable(topology, free, 3) == most
    assert len(packing.pack_partitions(topology, 3).list_sets(free)) == most


@by_name
def test_what_is_left_is_counted_as_if_nothing_had_been_counted_before(
    machine,
):
    topology = machine()
    rng = random.Random(6)
    for k in (1, 2, 3, 4, 8):
        for packed in {
            packing.pack_by_default(topology, k),
            *packing.pack_by_direct_link(topology, k),
        } - {None}:
            for _ in range(20):
                free = rng.getrandbits(topology.n)
                for taken in (
                    free & rng.getrandbits(topology.n) for _ in range(9)
                ):
                    left = packed.count_left(free, taken)
                    assert left == packed.count(free ^ taken)


def test_links_that_take_long_to_count_do_not_tell_many_sets_apart():
    """Direct links of two kinds, as rows and columns of a grid: the rows are
    counted at once, what rows and columns have together is not."""
    grid = Topology.from_matrix(
        [
            [
                links.make_nvlink(4)
                if a // 5 == b // 5
                else links.make_nvlink(2)
                if a % 5 == b % 5
                else links.SYS
                for b in range(25)
            ]
            for a in range(25)
        ]
    )
    mix = fragmentation.DEFAULT_MIX
    one = fragmentation.build_measure(grid, mix)
    many = fragmentation.build_measure_for_many(grid, mix)
    assert one.is_exact
    assert many.counts_exactly
    assert not one.counts_exactly
    masks = [0b11, 0b100001, 0b1000001]
    assert [d[0] for d in many.list_damages(grid.everything, masks)] == [
        one.measure_damage(grid.everything, mask)[0] for mask in masks
    ]
    assert [d[1] for d in many.list_damages(grid.everything, masks)] == [0] * 3
    # Where nothing takes long it is one measure.
    octet = machines.hgx_h100_partitions()
    assert fragmentation.build_measure_for_many(
        octet, mix
    ) is fragmentation.build_measure(octet, mix)


@pytest.mark.parametrize(
    ("sentence", "machine", "free", "mix", "expected"),
    [
        ("an empty board is whole", machines.hgx_h100_partitions, 255,
         fragmentation.DEFAULT_MIX, 0),
        ("nothing free is nothing wasted", machines.hgx_h100_partitions, 0,
         fragmentation.DEFAULT_MIX, 0),
        ("two halves of two pairs are no pair", machines.hgx_h100_partitions,
         0b0101, ((2, 1.0),), 2),
        ("a bridged pair is a pair", machines.bridge_pairs_out_of_order,
         0b0101, ((2, 1.0),), 0),
        ("three of a quad leave one for pairs, and three for quads",
         machines.hgx_h100_partitions, 0b0111, ((2, 0.5), (4, 0.5)), 2),
        ("a request larger than the host can use nothing",
         machines.redstone_a100, 0b1111, ((8, 0.25),), 1),
        ("no requests, no waste", machines.dgx1_v100, 255, (), 0),
    ],
)  # fmt: skip
def test_fragmentation(sentence, machine, free, mix, expected):
    found = fragmentation.build_measure(machine(), mix).measure(free)
    assert found == pytest.approx(expected), sentence


def test_partition_that_is_only_partly_visible_serves_nobody():
    half = Topology.from_matrix(
        [[links.make_nvlink(18)] * 2] * 2, [FabricPartition(1, 4, 0b11)]
    )
    assert _usable(half, 0b11, 4) == 0
    assert _usable(half, 0b11, 2) == 1
    assert half.lists_partitions(4)
