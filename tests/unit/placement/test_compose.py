# SPDX-License-Identifier: Apache-2.0

import collections
import itertools
import re

import pytest

from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import combine
from nova_gpu_filter.placement import compose
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import tree_devices
from nova_gpu_filter.placement import trees
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU
from tests.unit.placement.builders import NIC

ONE_NODE = {
    f"{kind}{i}": ["CUSTOM_GPU_LINK_NODE_0"] for kind in "gn" for i in range(8)
}


def compose_of(question, inner, *others, max_sets=16, seed=0, **kwargs):
    found = trees.read(question, inner, None, others)
    summaries = inner["provider_summaries"]
    room = remaining_capacity.find(
        question, found, summaries, lambda *_: set(summaries)
    )
    asked = candidates_request.Request(
        question, summaries, room, max_sets, seed, **kwargs
    )
    return compose.compose(asked, found)


def on_hosts(question, *hosts, **kwargs):
    summaries = {}
    for host in hosts:
        summaries |= host
    others = [builders.providers(summaries, NIC) for _ in question.classes[1:]]
    return compose_of(
        question, builders.inner_answer(summaries), *others, **kwargs
    )


def gpu_sets(candidates):
    return [frozenset(candidate.sets[0]) for candidate in candidates]


def devices(host, kind, count):
    return [f"{host}-{kind}{i}" for i in range(count)]


def test_all_sets_are_composed_once():
    candidates = on_hosts(
        builders.question(3), builders.host("a", 6), max_sets=None
    )
    assert len(candidates) == 20
    assert set(gpu_sets(candidates)) == builders.all_sets(
        devices("a", "g", 6), 3
    )


def test_few_sets_hold_a_packing_of_the_devices():
    candidates = on_hosts(
        builders.question(2),
        builders.host("a", 8, traits=ONE_NODE),
        max_sets=4,
    )
    assert len(candidates) == 4
    assert frozenset().union(*gpu_sets(candidates)) == frozenset(
        devices("a", "g", 8)
    )


def test_used_devices_are_left_out():
    host = builders.host("a", 3)
    host["a-g1"]["resources"][GPU]["used"] = 1
    [candidate] = on_hosts(builders.question(2), host)
    assert set(candidate.sets[0]) == {"a-g0", "a-g2"}


def test_a_tree_with_too_few_devices_gives_nothing():
    candidates = on_hosts(
        builders.question(4), builders.host("a", 3), builders.host("b", 4)
    )
    assert gpu_sets(candidates) == [frozenset(devices("b", "g", 4))]


def test_candidates_come_from_all_trees_in_turn():
    hosts = [builders.host(name, 8) for name in "abc"]
    candidates = on_hosts(builders.question(2, limit=7), *hosts)
    order = [next(iter(c.base.allocations)) for c in candidates]
    assert set(order[:3]) == {"a", "b", "c"}
    assert order == (order[:3] * 3)[:7]


def test_a_small_tree_does_not_hold_up_the_others():
    candidates = on_hosts(
        builders.question(2, limit=5),
        builders.host("a", 2),
        builders.host("b", 8),
    )
    counts = collections.Counter(
        next(iter(c.base.allocations)) for c in candidates
    )
    assert counts == {"a": 1, "b": 4}


def test_a_device_with_room_can_serve_several_groups():
    candidates = on_hosts(
        builders.question(3), builders.host("a", 2, capacity=2), max_sets=None
    )
    assert {tuple(sorted(c.sets[0])) for c in candidates} == {
        ("a-g0", "a-g0", "a-g1"),
        ("a-g0", "a-g1", "a-g1"),
    }
    assert len(candidates) == 2


def test_sets_of_many_and_of_few_devices_take_turns():
    candidates = on_hosts(
        builders.question(2), builders.host("a", 3, capacity=2)
    )
    different = [len(set(c.sets[0])) for c in candidates]
    assert different == [2, 1, 2, 1, 2, 1]


def test_isolated_groups_have_different_devices():
    candidates = on_hosts(
        builders.question(2, policy="isolate"),
        builders.host("a", 3, capacity=2),
        max_sets=None,
    )
    assert set(gpu_sets(candidates)) == builders.all_sets(
        devices("a", "g", 3), 2
    )


def test_amounts_above_one_are_taken_as_a_whole():
    question = builders.question(2, amount=2)
    summaries = builders.host("a", 2, capacity=3)
    candidates = compose_of(question, builders.inner_answer(summaries, 2))
    assert gpu_sets(candidates) == [frozenset(devices("a", "g", 2))]


def test_other_seeds_choose_other_sets_of_equal_devices():
    question = builders.question(2)
    firsts = {
        gpu_sets(on_hosts(question, builders.host("a", 8), seed=seed))[0]
        for seed in range(20)
    }
    assert len(firsts) > 5


def pci_host():
    """Four GPUs and four NICs, a GPU and a NIC below each PCIe switch."""
    return builders.host(
        "a",
        4,
        nics=4,
        traits={
            f"{kind}{i}": [f"CUSTOM_GPU_LINK_PIX_{i}"]
            for kind, i in itertools.product("gn", range(4))
        },
    )


def test_nics_are_near_to_the_gpus():
    candidates = on_hosts(builders.question(3, nics=2), pci_host(), max_sets=4)
    for candidate in candidates:
        gpus, nics = candidate.sets
        assert {nic[-1] for nic in nics} < {gpu[-1] for gpu in gpus}


def test_each_gpu_set_comes_before_any_comes_again():
    candidates = on_hosts(builders.question(3, nics=2), pci_host(), max_sets=6)
    sets = gpu_sets(candidates)
    assert len(set(sets[:4])) == 4


def test_all_sets_of_two_classes_are_combined():
    candidates = on_hosts(
        builders.question(3, nics=2),
        builders.host("a", 4, nics=3),
        max_sets=None,
    )
    combined = {tuple(map(frozenset, c.sets)) for c in candidates}
    assert len(candidates) == len(combined) == 4 * 3


def two_ports(capacity=1):
    """A host with a choice of ports beside two GPUs."""
    summaries = builders.host("a", 3)
    summaries |= {
        port: builders.summary("a", {"PORT": 1}) for port in ("p0", "p1")
    }
    return {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1}, port: {"PORT": 1}, device: {GPU: 1}},
                {"": ["a"], "_p": [port], "_g0": [device]},
            )
            for port in ("p0", "p1")
            for device in devices("a", "g", 3)
        ],
        "provider_summaries": summaries,
    }


def test_sets_are_combined_with_all_other_groups():
    question = builders.question(
        2, others=["resources_p=PORT:1", "same_subtree=_p"]
    )
    candidates = compose_of(question, two_ports(), max_sets=None)
    combined = {
        (candidate.base.mappings["_p"][0], frozenset(candidate.sets[0]))
        for candidate in candidates
    }
    assert len(candidates) == len(combined) == 2 * 3


def test_few_sets_take_turns_with_other_groups():
    question = builders.question(
        2, others=["resources_p=PORT:1", "same_subtree=_p"]
    )
    candidates = compose_of(question, two_ports(), max_sets=3)
    assert len(set(gpu_sets(candidates))) == 3
    assert {c.base.mappings["_p"][0] for c in candidates} == {"p0", "p1"}


def competing(fast_devices, slow_devices, fast, slow):
    """Two classes that ask for the same resource class.

    :param fast_devices: devices that can serve the first class.
    :param slow_devices: those that can serve the second.
    """
    everything = sorted({*fast_devices, *slow_devices})
    summaries = {"a": builders.summary("a", {"VCPU": 64})} | {
        device: builders.summary("a", {GPU: 1}) for device in everything
    }
    question = query.parse(
        "&".join(
            [
                "resources=VCPU:1",
                *(f"resources_f{i}={GPU}:1" for i in range(fast)),
                *(f"required_f{i}=CUSTOM_FAST" for i in range(fast)),
                *(f"resources_s{i}={GPU}:1" for i in range(slow)),
                "group_policy=none",
            ]
        ),
        (1, 39),
    )
    answers = {
        "_f0": fast_devices,
        "_s0": slow_devices,
    }
    first, second = question.classes
    inner = {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1}, device: {GPU: 1}},
                {"": ["a"], first.representative: [device]},
            )
            for device in answers[first.representative]
        ],
        "provider_summaries": summaries,
    }
    return question, inner, {"a": list(answers[second.representative])}


@pytest.mark.parametrize("max_sets", [1, 2, None])
def test_classes_do_not_get_the_same_device(max_sets):
    question, inner, other = competing("efgh", "abcdefgh", fast=2, slow=3)
    candidates = compose_of(question, inner, other, max_sets=max_sets)
    assert candidates
    for candidate in candidates:
        given = [d for found in candidate.sets for d in found]
        assert len(given) == len(set(given)) == 5


@pytest.mark.parametrize("seed", range(8))
def test_a_set_that_leaves_enough_for_the_others_is_found(seed):
    # The larger class must not take any of the devices that only the smaller
    # one could use; nearly all its sets do.
    question, inner, other = competing("ab", "abcdefgh", fast=2, slow=6)
    [candidate] = compose_of(question, inner, other, max_sets=1, seed=seed)
    assert [set(found) for found in candidate.sets] == [
        set("cdefgh"),
        set("ab"),
    ]


def test_a_search_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(combine, "_MOST_SEARCHED", 3)
    question, inner, other = competing("ab", "abcdefgh", fast=2, slow=6)
    with pytest.raises(query.TooManyError, match="too many"):
        compose_of(question, inner, other, max_sets=1)


@pytest.mark.parametrize(
    ("fast_devices", "fast", "slow"),
    [("abcd", 5, 2), ("abcdefgh", 5, 4), ("ab", 3, 2), ("ab", 2, 7)],
)
def test_what_is_too_much_by_number_is_not_tried(
    monkeypatch, fast_devices, fast, slow
):
    monkeypatch.setattr(combine, "_MOST_SEARCHED", 0)
    question, inner, other = competing(fast_devices, "abcdefgh", fast, slow)
    assert compose_of(question, inner, other) == []


def test_what_is_tried_for_one_request_is_bounded(monkeypatch):
    monkeypatch.setattr(candidates_request, "_EFFORT", 50)
    monkeypatch.setattr(candidates_request, "_EFFORT_FOR_PROVIDER", 0)
    question, inner, other = competing("ab", "abcdefgh", fast=2, slow=6)
    with pytest.raises(query.TooManyError, match="too many"):
        compose_of(question, inner, other, max_sets=1)


def test_a_device_that_owes_gpus_takes_none_of_others():
    # More of its GPUs are used than an operator left it; its NICs are free.
    summaries = builders.host("a", 2, capacity=2)
    summaries["a-n0"] = builders.summary("a", {NIC: 2, GPU: (0, 1)})
    question = builders.question(2, 2, others=[f"resources_b={GPU}:2"])
    found = compose_of(
        question,
        builders.inner_answer(summaries),
        {"a": ["a-n0"]},
        {"a": ["a-g0", "a-g1"]},
    )
    assert {candidate.sets for candidate in found} == {
        (("a-g0",) * 2, ("a-n0",) * 2, ("a-g1",)),
        (("a-g1",) * 2, ("a-n0",) * 2, ("a-g0",)),
    }


def test_devices_with_enough_for_all_classes_are_no_competition():
    # Where classes compete, one device could not be near to another.
    summaries = {"a": builders.summary("a", {"VCPU": 64})} | {
        f"a-{i}": builders.summary("a", {GPU: 2}) for i in range(4)
    }
    question = builders.question(
        2, others=[f"resources_s={GPU}:1", "required_s=CUSTOM_FAST"]
    )
    inner = builders.inner_answer(summaries)
    devices_ = {"a": [f"a-{i}" for i in range(4)]}
    for capacity, expected in ((3, False), (2, True)):
        for i in range(4):
            summaries[f"a-{i}"]["resources"][GPU]["capacity"] = capacity
        found = trees.read(question, inner, None, [devices_])
        room = remaining_capacity.find(
            question, found, summaries, lambda *_: set(summaries)
        )
        asked = candidates_request.Request(question, summaries, room, 16, 0)
        [tree] = found
        assert tree_devices.TreeDevices(asked, tree).compete is expected


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_tree_that_may_have_more_ways_is_left_to_placement(gpus):
    # The only way that was read takes a device that the class needs.
    question = builders.question(2, unsuffixed=f"VCPU:1,{GPU}:1")
    summaries = builders.host("a", gpus)
    inner = {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1}, "a-g0": {GPU: 1}}, {"": ["a", "a-g0"]}
            )
        ],
        "provider_summaries": summaries,
    }
    names = devices("a", "g", gpus)
    found = trees.read(question, inner, {"a": names}, [])
    room = {name: {GPU: 1} for name in names}
    for is_truncated in (False, True):
        asked = candidates_request.Request(
            question, summaries, room, 16, 0, is_truncated=is_truncated
        )
        if is_truncated and gpus == 2:
            with pytest.raises(query.TooManyError, match="combinations"):
                compose.compose(asked, found)
        else:
            assert compose.compose(asked, found) == []


def test_what_competing_classes_cannot_share_gives_nothing():
    question, inner, other = competing("abcd", "abcd", fast=2, slow=3)
    assert compose_of(question, inner, other) == []


def partitioned(name, pairs, used=()):
    """Make a host with NVSwitches and fabric partitions of two GPUs."""
    traits = {
        f"g{device}": [
            "CUSTOM_GPU_LINK_NV18_0",
            f"CUSTOM_GPU_FABRIC_{number}_2",
        ]
        for number, pair in enumerate(pairs)
        for device in pair
    }
    host = builders.host(name, 2 * len(pairs), traits=traits)
    for device in used:
        host[f"{name}-g{device}"]["resources"][GPU]["used"] = 1
    return host


PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7)]


@pytest.mark.parametrize("seed", range(8))
def test_what_the_limit_cuts_off_is_the_worst(seed):
    whole = partitioned("whole", PAIRS, used=(0, 2, 4))
    broken = [
        partitioned(f"broken{i}", PAIRS, used=(0, 2, 4, 6)) for i in range(40)
    ]
    candidates = on_hosts(
        builders.question(2, limit=5),
        *broken[:30],
        whole,
        *broken[30:],
        seed=seed,
    )
    assert len(candidates) == 5
    assert set(candidates[0].sets[0]) == {"whole-g6", "whole-g7"}


@pytest.mark.parametrize("seed", range(4))
def test_of_equally_linked_trees_the_least_damaged_comes_first(seed):
    # Two of two that are left are a partition; two of eight are, too.
    hosts = [partitioned(f"full{i}", PAIRS) for i in range(10)]
    rest = partitioned("rest", PAIRS, used=(0, 2, 3, 4, 5))
    candidates = on_hosts(
        builders.question(2, limit=3), *hosts, rest, seed=seed
    )
    assert next(iter(candidates[0].base.allocations)) == "rest"


def test_equal_trees_are_spread_over_requests_and_not_by_chance():
    hosts = [builders.host(f"host{i}", 8) for i in range(40)]

    def order(seed, hosts=hosts):
        candidates = on_hosts(builders.question(2, limit=5), *hosts, seed=seed)
        return [next(iter(c.base.allocations)) for c in candidates]

    assert order(1) == order(1, hosts[::-1])
    assert len({name for seed in range(40) for name in order(seed)}) > 30


def node_traits(*nodes):
    """Tell the NUMA nodes of GPUs and NICs, as many of each."""
    return {
        f"{kind}{i}": [f"CUSTOM_GPU_LINK_NODE_{node}"]
        for kind in "gn"
        for i, node in enumerate(nodes)
        if node is not None
    }


def nodes_of(candidates, nodes):
    return [
        frozenset(
            nodes[int(device[-1])]
            for device_set in candidate.sets
            for device in device_set
        )
        for candidate in candidates
    ]


@pytest.mark.parametrize("max_sets", [1, 2, 16])
@pytest.mark.parametrize(("gpus", "nics"), [(4, 0), (2, 2), (3, 2)])
def test_every_numa_node_that_can_serve_alone_does(gpus, nics, max_sets):
    nodes = (0, 1, 0, 1, 0, 1, 0, 1)
    for seed in range(6):
        candidates = on_hosts(
            builders.question(gpus, nics),
            builders.host("a", 8, nics=8, traits=node_traits(*nodes)),
            max_sets=max_sets,
            seed=seed,
        )
        # Early, as others may take a share of the limit.
        assert {*nodes_of(candidates[:3], nodes)} >= {
            frozenset({0}),
            frozenset({1}),
        }
        assert len(candidates) <= max(max_sets, 3)


def test_nodes_that_serve_together_do():
    nodes = (0, 0, 1, 1, 2, 2, 3, 3)
    candidates = on_hosts(
        builders.question(4),
        builders.host("a", 8, traits=node_traits(*nodes)),
        max_sets=2,
    )
    assert set(map(frozenset, itertools.combinations(range(4), 2))) <= set(
        nodes_of(candidates, nodes)
    )


@pytest.mark.parametrize("size", range(2, 9))
def test_of_8_gpus_on_unknown_nodes_every_set_is_offered(size):
    candidates = on_hosts(
        builders.question(size), builders.host("a", 8), max_sets=2
    )
    assert len(candidates) == len(set(gpu_sets(candidates)))
    assert set(gpu_sets(candidates)) == builders.all_sets(
        devices("a", "g", 8), size
    )


@pytest.mark.parametrize("seed", range(6))
def test_two_of_16_gpus_whose_node_is_known_do_not_hide_the_nodes(seed):
    """There are too many sets of the others for all of them to be tried."""
    node = ["CUSTOM_GPU_LINK_NODE_0"]
    sets = gpu_sets(
        on_hosts(
            builders.question(8),
            builders.host("a", 16, traits={"g0": node, "g2": node}),
            seed=seed,
        )
    )
    names = [f"a-g{number}" for number in range(16)]
    assert (
        {
            frozenset(names[:8]),
            frozenset(names[8:]),
            frozenset(names[::2]),  # where nodes take turns
            frozenset(names[1::2]),
        }
        <= set(sets[:6])
    )
    assert len(sets) == 16


@pytest.mark.parametrize("seed", range(6))
def test_of_equal_nvlinks_those_on_one_node_come_first(seed):
    traits = {
        gpu: [*found, "CUSTOM_GPU_LINK_NV18_0"]
        for gpu, found in node_traits(0, 1, 0, 1, 0, 1, 0, 1).items()
    }
    first, *_ = on_hosts(
        builders.question(4), builders.host("a", 8, traits=traits), seed=seed
    )
    assert len(nodes_of([first], (0, 1) * 4)[0]) == 1


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_host_of_64_devices_has_sets_within_a_group_of_nvlink(size):
    host = builders.host(
        "a",
        64,
        traits={
            f"g{i}": [
                f"CUSTOM_GPU_LINK_NV4_{i // 8}",
                f"CUSTOM_GPU_LINK_NODE_{8 + i // 32}",
            ]
            for i in range(64)
        },
    )
    first, *_ = on_hosts(builders.question(size), host, seed=0)
    groups = {
        int(re.search(r"\d+$", device)[0]) // 8
        for device_set in first.sets
        for device in device_set
    }
    assert len(groups) == 1
