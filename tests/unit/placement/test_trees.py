# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import trees
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU
from tests.unit.placement.builders import NIC


def read(question, inner, *others):
    return trees.read(question, inner, None, others)


def test_devices_are_grouped_by_tree():
    summaries = builders.host("a", 2) | builders.host("b", 1)
    found = read(builders.question(2), builders.inner_answer(summaries))
    assert [(tree.root, list(tree.devices[0])) for tree in found] == [
        ("a", ["a-g0", "a-g1"]),
        ("b", ["b-g0"]),
    ]
    [base] = found[0].base_allocations
    assert base.allocations == {"a": {"VCPU": 1}}
    assert base.mappings == {"": ["a"]}


def test_trees_without_a_device_of_a_further_class_are_dropped():
    summaries = builders.host("a", 2, nics=1) | builders.host("b", 2)
    found = read(
        builders.question(3, nics=2),
        builders.inner_answer(summaries),
        builders.providers(summaries, NIC),
    )
    assert [tree.root for tree in found] == ["a"]
    assert list(found[0].devices[1]) == ["a-n0"]


def test_other_providers_for_other_groups_are_another_rest():
    summaries = builders.host("a", 2)
    summaries |= {
        port: builders.summary("a", {"PORT": 1}) for port in ("p0", "p1")
    }
    question = builders.question(
        2, others=["resources_p=PORT:1", "same_subtree=_p"]
    )
    inner = {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1}, port: {"PORT": 1}, device: {GPU: 1}},
                {"": ["a"], "_p": [port], "_g0": [device]},
            )
            for port in ("p0", "p1")
            for device in ("a-g0", "a-g1")
            if (port, device) != ("p1", "a-g1")
        ],
        "provider_summaries": summaries,
    }
    everywhere = {"a": ["a-g0", "a-g1"]}
    [whole] = trees.read(question, inner, everywhere, ())
    assert [
        (base.allocations, list(base.devices))
        for base in whole.base_allocations
    ] == [
        ({"a": {"VCPU": 1}, port: {"PORT": 1}}, everywhere["a"])
        for port in ("p0", "p1")
    ]
    [tree] = read(question, inner)
    assert [
        (base.mappings["_p"], base.devices, base.granular_providers)
        for base in tree.base_allocations
    ] == [
        (["p0"], ["a-g0", "a-g1"], frozenset(["p0"])),
        (["p1"], ["a-g0"], frozenset(["p1"])),
    ]
    assert list(tree.devices[0]) == ["a-g0", "a-g1"]


def test_the_unsuffixed_group_may_get_the_same_from_other_providers():
    # VCPU of a and a GPU of a-g0, or the other way round where both have both.
    summaries = {
        name: builders.summary("a", {"VCPU": 4, GPU: 4}) for name in "ab"
    }
    question = builders.question(2, unsuffixed=f"VCPU:1,{GPU}:1")
    inner = {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1, GPU: 1}, "b": {GPU: 1}},
                {"": ["a", "b"], "_g0": ["a"]},
            ),
            builders.request(
                {"a": {GPU: 2}, "b": {"VCPU": 1}},
                {"": ["b", "a"], "_g0": ["a"]},
            ),
        ],
        "provider_summaries": summaries,
    }
    [tree] = read(question, inner)
    assert [base.allocations for base in tree.base_allocations] == [
        {"a": {"VCPU": 1}, "b": {GPU: 1}},
        {"a": {GPU: 1}, "b": {"VCPU": 1}},
    ]


def test_sharing_providers_are_not_understood_as_devices():
    summaries = builders.host(
        "a", 2, traits={"g1": ["MISC_SHARES_VIA_AGGREGATE"]}
    )
    with pytest.raises(query.NotComposableError, match="sharing"):
        read(builders.question(2), builders.inner_answer(summaries))


@pytest.mark.parametrize("is_in_summaries", [True, False])
def test_a_sharing_provider_without_the_other_class_is_one_too(
    is_in_summaries,
):
    # It could serve its class in the tree of another provider, and Placement
    # lists only trees that can serve the whole request.
    summaries = builders.host("a", 2, nics=2)
    sharing = builders.summary("s", {NIC: 4}, ["MISC_SHARES_VIA_AGGREGATE"])
    devices = [builders.providers(summaries | {"s": sharing}, NIC)]
    if is_in_summaries:
        summaries["s"] = sharing
    with pytest.raises(query.NotComposableError, match="sharing"):
        trees.refuse_sharing(summaries, devices, lambda: {"s", "t"})


def test_a_device_of_a_tree_that_cannot_serve_is_no_sharing_provider():
    summaries = builders.host("a", 2, nics=2)
    other = builders.host("b", 0, nics=1)
    devices = [builders.providers(summaries | other, NIC)]
    asked = []
    trees.refuse_sharing(
        summaries, devices, lambda: asked.append("sharing") or {"s"}
    )
    assert asked == ["sharing"]
    with pytest.raises(query.NotComposableError, match="sharing"):
        trees.refuse_sharing(summaries, devices, lambda: set(other))


def test_sharing_providers_are_not_asked_for_where_all_are_known():
    summaries = builders.host("a", 2, nics=2)
    devices = [builders.providers(summaries, NIC)]
    asked = []
    trees.refuse_sharing(
        summaries, devices, lambda: asked.append("sharing") or set()
    )
    assert devices[0]
    assert not asked


def ways(*ports):
    """The answer for a VCPU and one of some ports, without GPUs."""
    summaries = builders.host("a", 2) | builders.host("b", 2)
    summaries |= {port: builders.summary("a", {"PORT": 1}) for port in ports}
    requests = [
        builders.request(
            {"a": {"VCPU": 1}, port: {"PORT": 1}}, {"": ["a"], "_p": [port]}
        )
        for port in ports
    ]
    return {
        "allocation_requests": requests,
        "provider_summaries": summaries,
    }


def test_groups_in_no_class_can_be_read_without_devices():
    question = builders.question(
        2, others=["resources_p=PORT:1", "same_subtree=_p"]
    )
    inner = ways("p0", "p1")
    devices = {"a": ["a-g0", "a-g1"], "b": ["b-g0", "b-g1"]}
    [tree] = trees.read(question, inner, devices, [])
    assert tree.root == "a"
    assert [
        (base.mappings["_p"], base.devices) for base in tree.base_allocations
    ] == [
        (["p0"], ["a-g0", "a-g1"]),
        (["p1"], ["a-g0", "a-g1"]),
    ]
    assert trees.read(question, inner, {"b": ["b-g0"]}, []) == []


def test_a_tree_that_gives_nothing_itself_is_not_known():
    inner = ways("p0")
    inner["allocation_requests"] = [
        builders.request({"s": {"PORT": 1}}, {"_p": ["s"]})
    ]
    inner["provider_summaries"]["s"] = builders.summary(
        "s", {"PORT": 1}, ["MISC_SHARES_VIA_AGGREGATE"]
    )
    question = builders.question(2)
    with pytest.raises(query.NotComposableError, match="sharing"):
        trees.read(question, inner, {"a": ["a-g0"]}, [])


@pytest.mark.parametrize(
    ("free", "used", "kept"), [(4, 0, True), (3, 0, False), (5, 2, False)]
)
def test_what_the_rest_takes_counts_for_whether_a_tree_is_short(
    free, used, kept
):
    # Three groups, and a GPU for the unsuffixed one.
    question = builders.question(3, unsuffixed=f"VCPU:1,{GPU}:1")
    summaries = builders.host("a", free)
    for i in range(used):
        summaries[f"a-g{i}"]["resources"][GPU]["used"] = 1
    bases = [
        trees.BaseAllocation({"a": {"VCPU": 1}, f"a-g{i}": {GPU: 1}}, {}, [])
        for i in range(free)
    ]
    tree = trees.Tree("a", bases, [[f"a-g{i}" for i in range(free)]])
    assert trees.drop_short(question, [tree], summaries) == [tree] * kept


def test_a_provider_that_gives_more_than_it_may_takes_nothing_of_others():
    question = builders.question(3)
    summaries = builders.host("a", 4)
    summaries["a-g0"]["resources"][GPU] = {"capacity": 0, "used": 1}
    base = trees.BaseAllocation({"a": {"VCPU": 1}}, {}, [])
    tree = trees.Tree("a", [base], [["a-g1", "a-g2", "a-g3"]])
    assert trees.drop_short(question, [tree], summaries) == [tree]
