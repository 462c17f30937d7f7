# SPDX-License-Identifier: Apache-2.0

"""Beyond 16 devices not all sets are looked at: what holds all the same."""

import itertools
import random

import pytest

from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import free_twins
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology import ranking as ranking_lib
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask

HIDDEN = make_mask((3, 8, 11, 17, 20, 26, 29, 31))


def scattered_host(n=32, partitions=()):
    """Links without any order, and eight GPUs that are all bridged."""
    rng = random.Random(n)
    matrix = [[links.SYS] * n for _ in range(n)]
    for a, b in itertools.combinations(range(n), 2):
        link = rng.choice([links.SYS, links.NODE, links.PHB])
        if HIDDEN >> a & HIDDEN >> b & 1:
            link = links.make_nvlink(4)
        matrix[a][b] = matrix[b][a] = link
    return Topology.from_matrix(matrix, partitions)


def test_bound_on_the_sets_is_kept():
    topology = scattered_host()
    ranking = choice.rank_device_sets(topology, topology.everything, 8)
    assert not ranking.exact
    sets = ranking.list_best_first(1)
    assert 1000 < len(sets) == len(set(sets)) <= enumeration.MAX_SETS


@pytest.mark.parametrize(
    "policy",
    [
        None,
        LinkPolicy(Requirement.NVLINK),
        LinkPolicy(Requirement.NVLINK, required=False),
    ],
)
def test_set_with_the_best_weakest_link_is_found_first(policy):
    topology = scattered_host()
    ranking = choice.rank_device_sets(topology, topology.everything, 8, policy)
    assert ranking.list_best_first(seed=1, limit=1) == [HIDDEN]
    assert ranking.list_diverse(seed=1, limit=2)[0] == HIDDEN


def test_required_policy_holds_for_every_set():
    topology = scattered_host()
    policy = LinkPolicy(Requirement.PHB)
    ranking = choice.rank_device_sets(topology, topology.everything, 6, policy)
    assert ranking.best is not None
    assert all(
        topology.find_weakest_link(mask) >= links.PHB
        for mask in ranking.list_best_first(1)
    )


def test_required_policy_that_nothing_satisfies_leaves_nothing():
    topology = scattered_host()
    policy = LinkPolicy(Requirement.NVLINK)
    free = topology.everything & ~HIDDEN
    assert (
        choice.rank_device_sets(topology, free, 8, policy).list_best_first(1)
        == []
    )


def test_whole_partition_is_found_among_sets_with_better_links():
    members = make_mask(range(23, 31))  # low devices are looked at first
    topology = scattered_host(partitions=[FabricPartition(0, 8, members)])
    for policy in (None, LinkPolicy(Requirement.FABRIC, required=False)):
        ranking = choice.rank_device_sets(
            topology, topology.everything, 8, policy
        )
        assert ranking.list_best_first(seed=1, limit=1) == [members]


def test_given_sets_are_sorted_though_they_were_not_looked_at():
    topology = scattered_host()
    ranking = choice.rank_device_sets(topology, topology.everything, 8)
    looked_at = set(ranking.list_best_first(1))
    other = next(
        mask
        for start in range(24, -1, -1)
        if (mask := make_mask(range(start, start + 8))) not in looked_at
    )
    assert ranking.score(other).weakest == topology.find_weakest_link(other)
    assert ranking.order([other, HIDDEN, other], seed=1) == [1, 0, 2]


def test_twins_keep_a_large_switch_exact():
    n = 32
    topology = Topology.from_matrix([[links.make_nvlink(18)] * n] * n)
    ranking = choice.rank_device_sets(topology, topology.everything, 16)
    assert ranking.exact
    few = ranking.list_diverse(seed=1, limit=2)
    assert few[0] ^ few[1] == topology.everything


def test_more_than_64_devices_are_no_error():
    n = 72
    topology = Topology.from_matrix([[links.make_nvlink(18)] * n] * n)
    few = choice.rank_device_sets(
        topology, topology.everything, 8
    ).list_diverse(seed=1, limit=9)
    assert sum(few) == topology.everything


def test_packing_of_a_large_mesh_is_greedy_and_disjoint():
    topology = scattered_host()
    packed = packing.pack_linked_sets(topology, 3, links.PHB)
    sets = packed.list_sets(topology.everything)
    assert 1 <= len(sets) <= packed.count(topology.everything) <= 10
    assert sum(sets) == make_mask(
        device for device in range(32) if any(s >> device & 1 for s in sets)
    )
    assert all(topology.find_weakest_link(mask) >= links.PHB for mask in sets)


def beside(near_gpus, n, asked):
    """NICs of which each is on the PCIe switch of one of the GPUs."""
    cross = tuple(
        tuple(links.PIX if gpu == near else links.SYS for near in near_gpus)
        for gpu in range(n)
    )
    return companions.CompanionRequest(
        companions.Companions(cross), (1,) * len(near_gpus), asked
    )


@pytest.mark.parametrize("n", [32, 64])
def test_gpus_with_nics_are_found_among_many(n):
    """8 of 32 are 10.5 million sets, of which few are looked at."""
    near = [3, 8, 11, 17, 20, 26, 29, 31]
    topology = Topology.from_matrix([[links.make_nvlink(18)] * n] * n)
    ranking = choice.rank_device_sets(
        topology, topology.everything, 8, beside=(beside(near, n, 8),)
    )
    assert ranking.list_best_first(seed=1, limit=1) == [make_mask(near)]
    assert ranking.best.pairs == (8, 8, 8, 8)
    # All have the same links, so that there is one bound for all.
    assert len(ranking.list_best_first(seed=1)) <= ranking_lib.MAX_PAIRED


def test_links_come_before_nics_where_not_all_is_looked_at():
    topology = scattered_host()
    near = beside([0, 1, 2, 4, 5, 6, 7, 9], topology.n, 8)
    ranking = choice.rank_device_sets(
        topology, topology.everything, 8, beside=(near,)
    )
    assert ranking.list_best_first(seed=1, limit=1) == [HIDDEN]


def nodes_and_links(linked):
    """64 GPUs on two NUMA nodes, with NVLink among so many neighbors."""
    places = range(64)
    return Topology.from_matrix(
        [
            [
                links.make_nvlink(4)
                if a // linked == b // linked
                else links.NODE
                if a // 32 == b // 32
                else links.SYS
                for b in places
            ]
            for a in places
        ],
        numa=[place // 32 for place in places],
    )


@pytest.mark.parametrize("linked", [1, 8])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_disjoint_sets_of_64_devices_are_as_good_as_the_best(linked, k):
    topology = nodes_and_links(linked)
    ranking = choice.rank_device_sets(topology, topology.everything, k)
    limit = min(16, 64 // k)
    for seed in range(5):
        masks = ranking.list_diverse(seed, limit)
        assert len(masks) == limit
        assert sum(masks).bit_count() == limit * k
        assert masks[0] == ranking.list_best_first(seed, 1)[0]
        assert {ranking.score(mask)[:4] for mask in masks} == {
            ranking.best[:4]
        }


def test_disjoint_sets_of_many_devices_need_few_rankings(monkeypatch):
    """Each takes milliseconds: 16 of them took 150 to 300."""
    asked = []
    rank = choice.rank_device_sets
    monkeypatch.setattr(
        choice,
        "rank_device_sets",
        lambda *args: asked.append(args) or rank(*args),
    )
    topology = nodes_and_links(8)
    rank(topology, topology.everything, 4).list_diverse(seed=1, limit=16)
    assert len(asked) <= 3


STRIDED = Topology.from_matrix(
    [
        [
            links.make_nvlink(4)
            if abs(a - b) == 32
            else links.NODE
            if a // 32 == b // 32
            else links.SYS
            for b in range(64)
        ]
        for a in range(64)
    ]
)
RING = Topology.from_matrix(
    [
        [
            links.make_nvlink(2) if abs(a - b) in (1, 63) else links.SYS
            for b in range(64)
        ]
        for a in range(64)
    ]
)


@pytest.mark.parametrize("k", [4, 8])
@pytest.mark.parametrize("topology", [STRIDED, RING], ids=["strided", "ring"])
def test_few_steps_find_sets_that_are_as_good(topology, k, monkeypatch):
    """Where not all are compared, once for each of the disjoint sets."""
    steps = []
    take = cliques.Steps.take

    def count(self, number=1):
        steps.append(number)
        return take(self, number)

    # Nobody has asked with this one: nothing is remembered.
    mix = ((1, 0.1), (2, 0.5), (4, 0.2), (8, 0.2))

    def rank(free):
        return choice.Choice(topology, free, k, None, mix)

    def judge(masks):
        return [
            (topology.find_weakest_link(m), topology.sum_links(m))
            for m in masks
        ]

    monkeypatch.setattr(cliques.Steps, "take", count)
    hasty = rank(topology.everything).list_diverse(seed=3, limit=64 // k)
    assert sum(steps) <= 6 * enumeration.MAX_STEPS
    monkeypatch.undo()
    assert sum(hasty) == topology.everything
    thorough = []
    while sum(thorough) != topology.everything:
        thorough += rank(topology.everything ^ sum(thorough)).list_best_first(
            3, 1
        )
    assert judge(hasty) == judge(thorough)


def octets_and_others():
    """64 GPUs in groups of 8, but for some that differ."""
    return Topology.from_matrix(
        [
            [
                links.make_nvlink(18 if a // 4 == b // 4 else 4)
                if a // 8 == b // 8 and min(a, b) > 4
                else links.NODE
                if a // 32 == b // 32
                else links.SYS
                for b in range(64)
            ]
            for a in range(64)
        ]
    )


def count_lists(monkeypatch):
    """Have sets noted for which all like them are listed."""
    listed = []
    list_sets = free_twins.FreeTwins.list_sets

    def note(self, mask, *arguments):
        listed.append(mask)
        return list_sets(self, mask, *arguments)

    monkeypatch.setattr(free_twins.FreeTwins, "list_sets", note)
    return listed


@pytest.mark.parametrize("k", [3, 4, 8])
@pytest.mark.parametrize(
    "topology",
    [nodes_and_links(8), nodes_and_links(2), octets_and_others()],
    ids=["octets", "pairs", "others"],
)
def test_sets_that_are_cut_off_have_the_places_of_a_full_list(
    topology, k, monkeypatch
):
    """Many are equally good: few are listed, others are only counted."""
    rng = random.Random(k)
    masks = [make_mask(rng.sample(range(64), k)) for _ in range(60)]

    def rank():
        return choice.Choice(
            topology, topology.everything, k, None, fragmentation.DEFAULT_MIX
        )

    for tier in itertools.islice(rank().generate_tiers(), 4):
        masks += (*tier.packing[-3:], *tier.sets[-3:], *tier.sets[:3])
    listed = count_lists(monkeypatch)
    orders = [rank().order(masks, seed) for seed in range(5)]
    counted = len(listed)
    # As if there were few: all are listed then.
    monkeypatch.setattr(
        free_twins.FreeTwins, "count_sets", lambda self, mask: 0
    )
    assert orders == [rank().order(masks, seed) for seed in range(5)]
    assert counted <= len(listed) - counted


def test_few_of_many_equal_sets_are_placed_without_a_list(monkeypatch):
    topology = nodes_and_links(8)
    listed = count_lists(monkeypatch)
    ranking = choice.rank_device_sets(topology, topology.everything, 8)
    # One of each group, and not those that are taken for disjoint ones.
    masks = [
        make_mask(8 * group + (group + start) % 8 for group in range(8))
        for start in range(1, 8)
    ]
    assert ranking.order(masks, seed=1) == list(range(7))
    assert listed == []


@pytest.mark.parametrize("k", [2, 4, 8])
@pytest.mark.parametrize("topology", [RING, scattered_host(64)])
def test_sets_with_worse_links_are_looked_for_when_asked_for(
    topology, k, monkeypatch
):
    asked = []
    list_by_link = enumeration.list_sets_by_link

    def count(*arguments):
        asked.append(arguments)
        return list_by_link(*arguments)

    monkeypatch.setattr(enumeration, "list_sets_by_link", count)

    def rank():
        return choice.Choice(
            topology, topology.everything, k, None, fragmentation.DEFAULT_MIX
        )

    ranking = rank()
    (best,) = ranking.list_best_first(seed=1, limit=1)
    few = len(asked)
    everything = ranking.list_best_first(seed=1)
    assert everything[0] == best
    assert everything == rank().list_best_first(seed=1)
    if not ranking.exact:
        assert few <= len(asked) - few
        assert len(asked) == 2 * len(topology.levels)
