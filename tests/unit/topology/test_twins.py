# SPDX-License-Identifier: Apache-2.0

import random
import tracemalloc

import pytest

from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import free_twins
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import twins
from nova_gpu_filter.topology.topology import Topology
from tests import machines
from tests.unit.topology import reference


@pytest.mark.parametrize(
    ("machine", "classes"),
    [
        (machines.dgx2_v100, [0x00FF, 0xFF00]),
        (machines.hgx_h100_partitions, [0b11, 0b1100, 0b110000, 0b11000000]),
        (machines.bridge_pairs_out_of_order, [0x05, 0x0A, 0x90, 0x60]),
        (machines.uneven_numa, [0b111111, 0b11000000]),
        (machines.dgx1_v100, [1 << i for i in range(8)]),
    ],
)
def test_devices_that_can_be_swapped_are_one_class(machine, classes):
    assert sorted(twins.find_twin_classes(machine())) == sorted(classes)


@pytest.mark.parametrize("free", [0xFF, 0b10110111, 0b1])
@pytest.mark.parametrize("machine", machines.MACHINES_OF_8)
def test_representatives_stand_for_each_set_once(machine, free):
    topology = machine()
    free &= topology.everything
    among = free_twins.FreeTwins(topology, free)
    for k in range(1, 9):
        sets = list(reference.sets_of(free, k))
        representatives = {among.find_representative(mask) for mask in sets}
        assert among.count_representatives(k) == len(representatives)
        expanded = [
            m for r in representatives for m in among.list_sets(r, len(sets))
        ]
        assert sorted(expanded) == sorted(sets)


def groups_of(sizes, stride=1, nodes=1):
    """NVLink within groups of such sizes; with a stride, members apart."""
    group = [i for i, size in enumerate(sizes) for _ in range(size)]
    n = len(group)
    order = [
        place for first in range(stride) for place in range(n)[first::stride]
    ]
    group = [group[place] for place in order]
    return Topology.from_matrix(
        [
            [
                links.make_nvlink(4)
                if group[a] == group[b]
                else links.NODE
                if a * nodes // n == b * nodes // n
                else links.SYS
                for b in range(n)
            ]
            for a in range(n)
        ]
    )


GROUPS = {
    "pairs": groups_of([2] * 5),
    "pairs far apart": groups_of([2] * 5, stride=2),
    "pairs on two nodes": groups_of([2] * 4, nodes=2),
    "threes": groups_of([3] * 3),
    "threes far apart": groups_of([3] * 3, stride=3),
    "pairs and threes": groups_of([2, 3, 2, 3]),
    "pairs and single ones": groups_of([2, 1, 2, 1, 2, 1]),
    "pairs across the nodes": groups_of([2] * 5, stride=2, nodes=2),
}


def pick_free(topology, rng):
    """Let four of five devices be free."""
    return sum(1 << i for i in range(topology.n) if rng.random() < 0.8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_can_change_places_are_one_case(name, seed):
    topology = GROUPS[name]
    rng = random.Random(seed)
    free = pick_free(topology, rng) if seed else topology.everything
    among = free_twins.FreeTwins(topology, free)
    apart = free_twins.FreeTwins(topology, free, are_classes_alike=False)
    for k in range(1, 7):
        sets = list(reference.sets_of(free, k))
        representatives = {among.find_representative(mask) for mask in sets}
        assert among.count_representatives(k) == len(representatives)
        assert len(representatives) <= apart.count_representatives(k)
        expanded = [
            m for r in representatives for m in among.list_sets(r, len(sets))
        ]
        assert sorted(expanded) == sorted(sets)
        for mask in representatives:
            # It is built from low to high devices.
            assert all(
                not among.previous[device] & ~mask
                for device in range(topology.n)
                if mask >> device & 1
            )
            disjoint = among.list_disjoint_sets(mask)
            assert disjoint
            assert sum(disjoint).bit_count() == k * len(disjoint)
            assert {
                among.find_representative(found) for found in disjoint
            } == {mask}


def test_any_two_of_many_pairs_are_one_case():
    among = free_twins.FreeTwins(groups_of([2] * 32), (1 << 64) - 1)
    assert among.count_representatives(4) == 3
    assert among.list_sets(0b1111, 2) == [0b1111, 0b110011]
    assert len(among.list_disjoint_sets(0b1111)) == 16


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", GROUPS)
def test_sets_are_located_without_the_list_of_all(name, seed):
    topology = GROUPS[name]
    rng = random.Random(seed)
    free = pick_free(topology, rng) if seed else topology.everything
    among = free_twins.FreeTwins(topology, free, are_classes_alike=seed < 3)
    for k in range(1, 7):
        sets = list(reference.sets_of(free, k))
        for representative in {
            among.find_representative(mask) for mask in sets
        }:
            listed = among.list_sets(representative, len(sets))
            assert [among.locate(mask) for mask in listed] == [
                (place, len(listed)) for place in range(len(listed))
            ]
            assert among.count_sets(representative) == len(listed)
            # Fewer are the first of them.
            few = rng.randrange(1, len(listed) + 1)
            assert among.list_sets(representative, few) == listed[:few]


def test_no_more_sets_of_large_groups_are_listed_than_are_asked_for():
    """8 of 32 are 10.5 million."""
    topology = groups_of([32, 32])
    among = free_twins.FreeTwins(topology, topology.everything)
    mask = among.find_representative(0xFFFF << 24)
    assert mask.bit_count() == 16
    tracemalloc.start()
    assert len(set(among.list_sets(mask, 100))) == 100
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


def list_tiers(ranking):
    return [
        (tier.score, list(tier.sets), tier.packing)
        for tier in ranking.generate_tiers()
    ]


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GROUPS)
def test_what_can_change_places_does_not_change_the_choice(
    name, seed, k, monkeypatch
):
    topology = GROUPS[name]
    rng = random.Random(seed)
    free = sum(1 << i for i in range(topology.n) if rng.random() < 0.85)
    mix = ((1, 0.5), (2, 0.3), (3, 0.2))
    found = choice.Choice(topology, free, k, None, mix)
    monkeypatch.setattr(
        twins,
        "find_orbits",
        lambda topology: [[c] for c in twins.find_twin_classes(topology)],
    )
    apart = choice.Choice(topology, free, k, None, mix)
    assert list_tiers(found) == list_tiers(apart)
    assert found.list_diverse(seed) == apart.list_diverse(seed)
