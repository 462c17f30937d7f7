# SPDX-License-Identifier: Apache-2.0

import itertools
import random

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.fragmentation import DEFAULT_MIX
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices
from nova_gpu_filter.topology.topology import make_mask
from tests import machines
from tests.unit.topology import reference

POLICIES = [
    LinkPolicy(link, required)
    for link in Requirement
    for required in (True, False)
]

by_name = pytest.mark.parametrize(
    "machine", machines.MACHINES_OF_8, ids=lambda machine: machine.__name__
)
by_name_of_16 = pytest.mark.parametrize(
    "machine", machines.MACHINES_OF_16, ids=lambda machine: machine.__name__
)


def assert_agrees(topology, free, k, policy=None, mix=DEFAULT_MIX, nics=()):
    """Compare all that a ranking says with brute force.

    :param nics: see reference.best_pairs.
    """
    beside = tuple(
        companions.CompanionRequest(
            companions.Companions(cross),
            tuple(columns.count(i) for i in range(len(cross[0]))),
            count,
        )
        for cross, columns, count in nics
    )
    ranking = choice.rank_device_sets(topology, free, k, policy, mix, beside)
    expected = reference.tiers(topology, free, k, policy, mix, nics)
    assert ranking.exact
    found = [
        (tier.score, list(tier.sets)) for tier in ranking.generate_tiers()
    ]
    assert found == expected
    ordered = ranking.list_best_first(seed=7)
    at = 0
    for _, masks in expected:
        assert sorted(ordered[at : at + len(masks)]) == masks
        at += len(masks)
    assert len(ordered) == at
    every = list(reference.sets_of(topology.everything, k))
    assert [every[i] for i in ranking.order(every, seed=7)] == ordered


def good_sets(topology, free, k, policy):
    if policy is None:
        sets = reference.good_sets(topology, k)
    else:
        sets = [
            mask
            for mask in reference.sets_of(free, k)
            if reference.satisfies(topology, mask, policy)
        ]
    return [mask for mask in sets if mask & free == mask]


def assert_few_are_useful(topology, free, k, policy=None):
    ranking = choice.rank_device_sets(topology, free, k, policy)
    few = ranking.list_diverse(seed=5)
    assert sorted(few) == sorted(ranking.list_best_first(seed=5))
    assert few[:1] == ranking.list_best_first(seed=5, limit=1)
    assert few[:3] == ranking.list_diverse(seed=5, limit=3)
    # All that a packing needs stands in front: look no further than that.
    front = few[: 2 * (free.bit_count() // k)]
    good = good_sets(topology, free, k, policy)
    assert reference.most_disjoint(
        [mask for mask in front if mask in good], free, k
    ) == reference.most_disjoint(good, free, k)


@by_name
def test_every_choice_on_this_machine_is_that_of_brute_force(machine):
    topology = machine()
    for free in range(1 << topology.n):
        for k in range(1, topology.n + 1):
            assert_agrees(topology, free, k)


@by_name
def test_every_policy_on_this_machine_is_that_of_brute_force(machine):
    topology = machine()
    rng = random.Random(machine.__name__)
    for free in rng.sample(range(1 << topology.n), 16):
        for k, policy in itertools.product((1, 2, 3, 4), POLICIES):
            assert_agrees(topology, free, k, policy)


@by_name_of_16
def test_choices_of_16_are_those_of_brute_force(machine):
    topology = machine()
    rng = random.Random(1)
    for _ in range(6):
        free = make_mask(rng.sample(range(16), 8))
        for k in range(1, 9):
            assert_agrees(topology, free, k)


@by_name_of_16
def test_best_set_of_16_has_the_best_links_there_are(machine):
    topology = machine()
    rng = random.Random(2)
    for k in range(1, 17):
        free = make_mask(rng.sample(range(16), rng.randint(k, 16)))
        best = choice.rank_device_sets(topology, free, k).best
        assert (*best[2:4], *best[5:7]) == max(
            (
                reference.weakest(topology, mask),
                sum(reference.links_in(topology, mask)),
                min(reference.ways_in(topology, mask), default=links.SELF),
                sum(reference.ways_in(topology, mask)),
            )
            for mask in reference.sets_of(free, k)
        )


@st.composite
def hosts(draw):
    n = draw(st.integers(1, 6))
    some_links = st.sampled_from(
        [
            links.SYS,
            links.NODE,
            links.PIX,
            links.make_nvlink(1),
            links.make_nvlink(2),
        ]
    )
    matrix = [[links.SYS] * n for _ in range(n)]
    ways = [[links.SYS] * n for _ in range(n)]
    for a, b in itertools.combinations(range(n), 2):
        link = matrix[a][b] = matrix[b][a] = draw(some_links)
        ways[a][b] = ways[b][a] = (
            draw(st.sampled_from([links.SYS, links.NODE, links.PIX]))
            if links.is_direct(link)
            else link
        )
    masks = draw(st.lists(st.integers(1, (1 << n) - 1), max_size=6))
    hidden = st.sampled_from([0, 0, 0, 1])
    partitions = [
        FabricPartition(id_, mask.bit_count() + draw(hidden), mask)
        for id_, mask in enumerate(masks)
    ]
    return Topology.from_matrix(matrix, partitions, ways=ways)


@settings(deadline=None, max_examples=150)
@given(
    topology=hosts(),
    free=st.integers(0, 63),
    policy=st.sampled_from([None, *POLICIES]),
    mix=st.sampled_from([DEFAULT_MIX, ((2, 1.0),), ((3, 0.7), (1, 0.3)), ()]),
)
def test_choices_on_any_host_are_those_of_brute_force(
    topology, free, policy, mix
):
    free &= topology.everything
    for k in range(1, topology.n + 2):
        assert_agrees(topology, free, k, policy, mix)


@st.composite
def kinds_of_nics(draw, gpus):
    """NICs of one kind: links to the GPUs, those to be had, and how many."""
    number = draw(st.integers(1, 4))
    some_links = st.sampled_from(
        [links.SYS, links.NODE, links.PHB, links.PXB, links.PIX]
    )
    cross = tuple(draw(st.tuples(*[some_links] * number)) for _ in range(gpus))
    # One that stands twice has two virtual functions.
    columns = draw(
        st.lists(st.integers(0, number - 1), min_size=1, max_size=4)
    )
    return cross, sorted(columns), draw(st.integers(1, len(columns)))


@settings(deadline=None, max_examples=150)
@given(hosts(), st.data())
def test_gpus_and_nics_of_any_host_are_those_of_brute_force(topology, data):
    free = data.draw(st.integers(0, topology.everything))
    nics = data.draw(
        st.lists(kinds_of_nics(topology.n), min_size=1, max_size=2)
    )
    for k in range(1, 4):
        assert_agrees(topology, free, k, nics=nics)


@settings(deadline=None, max_examples=100)
@given(
    topology=hosts(),
    free=st.integers(0, 63),
    policy=st.sampled_from([None, *POLICIES]),
)
def test_few_sets_of_any_host_start_with_the_best_and_a_packing(
    topology, free, policy
):
    free &= topology.everything
    for k in range(1, topology.n + 1):
        assert_few_are_useful(topology, free, k, policy)


@by_name
def test_few_sets_start_with_the_best_and_a_packing(machine):
    topology = machine()
    for free in random.Random(3).sample(range(1 << topology.n), 16):
        for k in (1, 2, 4):
            assert_few_are_useful(topology, free, k)


@pytest.mark.parametrize("seed", range(8))
def test_few_sets_have_a_packing_that_the_best_set_need_not_be_part_of(seed):
    """Fast pairs all share GPU 0, but only 0 and 5 leave two other pairs."""
    star = machines.nested(
        6,
        ("NV1", [(1, 2), (3, 4)]),
        ("NV2", [(0, other) for other in range(1, 6)]),
        numa=(0,) * 6,
    )
    policy = LinkPolicy(Requirement.NVLINK)
    few = choice.rank_device_sets(star, 0b111111, 2, policy).list_diverse(
        seed, limit=5
    )
    assert few[0] & 1
    assert reference.most_disjoint(few, 0b111111, 2) == 3


def test_few_sets_have_one_on_each_numa_node():
    topology = machines.hgx_a100()
    few = choice.rank_device_sets(topology, 0b11110111, 3).list_diverse(
        seed=1, limit=4
    )
    assert any(mask & 0x0F == mask for mask in few)
    assert any(mask & 0xF0 == mask for mask in few)


@pytest.mark.parametrize(
    ("sentence", "machine", "free", "k", "expected"),
    [
        (
            "one GPU comes from the pair that has no bridge",
            machines.one_bridge_pair,
            0b1111,
            1,
            [0b0100, 0b1000],
        ),
        (
            "one GPU comes from the pair that is broken already",
            machines.bridge_pairs_out_of_order,
            0b11111110,
            1,
            [0b00000100],
        ),
        (
            "one GPU comes from the partition that is broken already",
            machines.hgx_h100_partitions,
            0b11111110,
            1,
            [0b00000010],
        ),
        (
            "two GPUs are a bridged pair though their bridge is not in order",
            machines.bridge_pairs_out_of_order,
            0b00001111,
            2,
            [0b0101, 0b1010],
        ),
        (
            "two GPUs leave the whole partition of four alone",
            machines.hgx_h100_partitions,
            0b11111100,
            2,
            [0b00001100],
        ),
        (
            "four GPUs of a DGX-1 are a quad of the cube mesh",
            machines.dgx1_v100,
            0b11111111,
            4,
            [0b00001111, 0b11110000],
        ),
        (
            "two GPUs of a DGX-1 have two NVLinks, whatever the index says",
            machines.dgx1_v100,
            0b00010001,
            2,
            [0b00010001],
        ),
        (
            "two GPUs take the small NUMA node and spare four on the large",
            machines.uneven_numa,
            0b11001111,
            2,
            [0b11000000],
        ),
        (
            "two of eight behind NVSwitches are on one socket",
            machines.hgx_h100,
            0b11111111,
            2,
            [
                make_mask(pair)
                for socket in (range(4), range(4, 8))
                for pair in itertools.combinations(socket, 2)
            ],
        ),
        (
            "four of eight behind NVSwitches are a socket",
            machines.hgx_a100,
            0b11111111,
            4,
            [0b00001111, 0b11110000],
        ),
        (
            "two of eight behind NVSwitches are on one PCIe switch",
            machines.hgx_h100_pcie_switches,
            0b11111111,
            2,
            [0b00000011, 0b00001100, 0b00110000, 0b11000000],
        ),
        (
            "two of a DGX-1 have two NVLinks on one socket",
            machines.dgx1_v100,
            0b10011001,
            2,
            [0b00001001, 0b10010000],
        ),
        (
            "a set with a weak pair loses, however fast its other pairs",
            machines.dgx1_v100,
            0b10001111,
            3,
            [0b00000111, 0b00001011, 0b00001101, 0b00001110],
        ),
    ],
)
def test_best_sets(sentence, machine, free, k, expected):
    topology = machine()
    tier = next(choice.rank_device_sets(topology, free, k).generate_tiers())
    assert set(tier.sets) <= set(expected), sentence
    for mask in tier.sets:
        assert len(list_devices(mask)) == k


def test_required_policy_refuses_what_preferred_puts_last():
    topology = machines.bridge_pairs_h100_nvl()
    free = make_mask((0, 2, 4))
    required = choice.rank_device_sets(
        topology, free, 2, LinkPolicy(Requirement.NVLINK)
    )
    assert required.best is None
    assert required.list_best_first(1) == required.list_diverse(1) == []
    assert required.order([0b101], 1) == []
    preferred = choice.rank_device_sets(
        topology, free, 2, LinkPolicy(Requirement.NVLINK, required=False)
    )
    assert preferred.best.satisfied is False
    assert preferred.list_best_first(1)[0] == 0b101


def test_sets_that_are_not_free_or_of_another_size_cannot_be_had():
    ranking = choice.rank_device_sets(machines.hgx_h100(), 0b1111, 2)
    assert ranking.order([0b110000, 0b111, 0b11], seed=1) == [2]
    assert ranking.score(0b110000) is None


@pytest.mark.parametrize(
    ("free", "k", "message"),
    [
        (0b1111, 0, "cannot choose 0 devices"),
        (0b10000, 1, "there are only 4 devices"),
    ],
)
def test_questions_without_sense_are_errors(free, k, message):
    with pytest.raises(ValueError, match=message):
        choice.rank_device_sets(machines.redstone_a100(), free, k)


def test_more_devices_than_are_free_is_no_choice_and_no_error():
    ranking = choice.rank_device_sets(machines.redstone_a100(), 0b11, 3)
    assert (
        ranking.best,
        ranking.list_best_first(1),
        ranking.list_diverse(1),
    ) == (
        None,
        [],
        [],
    )
