# SPDX-License-Identifier: Apache-2.0

"""What Placement is asked for a request, as it answers."""

import pytest

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import search
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU
from tests.unit.placement.builders import NIC

PORT = ["resources_p=PORT:1", "same_subtree=_p"]


class Placement:
    """A Placement with some providers, that notes what it is asked."""

    def __init__(self, summaries, ways=1, sharing=(), whole=None):
        self.summaries = summaries
        self.whole = whole
        """What it has answered when it was opened, if that is all."""
        self.ways = ways
        self.sharing = sharing
        self.able = ()
        """Trees with VCPU and a port."""
        self.opened = []
        self.asked = []
        self.checked = []

    def open(self, text):
        self.opened.append(text)

    def find_whole(self, text):
        assert text in self.opened
        return self.whole

    def find_candidates(self, text, most, in_turn=False):
        self.asked.append((text, most))
        # In turn where what is read of an answer is used though it is cut off.
        assert in_turn or GPU in text
        if not in_turn:
            return builders.inner_answer(self.summaries)
        devices = GPU in text
        roots = [
            root
            for _ in range(self.ways)
            for root in self.summaries
            if root == self.summaries[root]["root_provider_uuid"]
        ]
        requests = [
            builders.request(
                {
                    root: {"VCPU": 1},
                    **({f"{root}-g0": {GPU: 1}} if devices else {}),
                },
                {
                    "": [root],
                    "_p": [root],
                    **({"_g0": [f"{root}-g0"]} if devices else {}),
                },
            )
            for root in roots
        ]
        return {
            "allocation_requests": requests[:most],
            "provider_summaries": self.summaries,
        }

    def check_providers(self, text):
        self.checked.append(text)

    def find_providers(self, text):
        if text in ("resources=VCPU:1", "resources=PORT:1"):
            return {root: [root] for root in self.able}
        self.asked.append((text, None))
        if "MISC_SHARES_VIA_AGGREGATE" in text:
            return {name: [name] for name in self.sharing}
        return builders.providers(self.summaries, GPU if GPU in text else NIC)


def test_of_few_ways_one_question_has_the_devices_of_the_first_class():
    summaries = builders.host("a", 4, nics=2)
    question = builders.question(3, nics=1)
    placement = Placement(summaries)
    found = search.find_trees(question, placement, 1000)
    assert placement.opened == [question.first_class_query]
    assert placement.asked == [
        (question.first_class_query, 100_000),
        (f"resources={NIC}:1", None),
    ]
    [tree] = found.provider_trees
    assert [len(devices) for devices in tree.devices] == [4, 2]
    assert not found.is_truncated


def test_nothing_more_is_asked_where_no_tree_can_serve_the_first_class():
    placement = Placement(builders.host("a", 0, nics=2))
    question = builders.question(3, nics=1)
    found = search.find_trees(question, placement, 1000)
    assert placement.asked == [(question.first_class_query, 100_000)]
    assert placement.checked == [f"resources={GPU}:1", f"resources={NIC}:1"]
    assert (list(found.provider_trees), found.is_truncated) == ([], False)


def base_answer(summaries, roots):
    """An answer with one way to serve the rest in each tree."""
    return {
        "allocation_requests": [
            builders.request({root: {"VCPU": 1}}, {"": [root], "_p": [root]})
            for root in roots
        ],
        "provider_summaries": summaries,
    }


def test_ways_that_are_known_are_not_asked_for_again():
    summaries = builders.host("a", 4) | builders.host("b", 4)
    question = builders.question(3, nics=1, others=PORT)
    placement = Placement(summaries, whole=base_answer(summaries, ["a", "b"]))
    found = search.find_trees(question, placement, 1000)
    # There are no NICs, as in Placement the end.
    assert placement.asked == [
        (f"resources={GPU}:1", None),
        (f"resources={NIC}:1", None),
    ]
    assert (list(found.provider_trees), found.is_truncated) == ([], False)
    found = search.find_trees(
        builders.question(3, others=PORT), placement, 1000
    )
    assert [tree.root for tree in found.provider_trees] == ["a", "b"]
    assert [list(tree.devices) for tree in found.provider_trees] == [
        [[f"{root}-g{i}" for i in range(4)]] for root in "ab"
    ]


def test_nothing_more_is_asked_where_no_tree_can_serve_the_rest():
    summaries = builders.host("a", 4)
    placement = Placement(summaries, whole=base_answer({}, []))
    found = search.find_trees(
        builders.question(3, nics=1, others=PORT), placement, 1000
    )
    assert not placement.asked
    assert (list(found.provider_trees), found.is_truncated) == ([], False)


def test_of_many_ways_each_class_is_asked_for_by_itself():
    summaries = builders.host("a", 4) | builders.host("b", 4)
    question = builders.question(3, others=PORT)
    placement = Placement(summaries)
    found = search.find_trees(question, placement, 1)
    assert placement.opened == [question.base_query]
    assert placement.asked == [
        (f"resources={GPU}:1", None),
        # Eight for each of two trees.
        (question.base_query, 16),
    ]
    assert [len(tree.base_allocations) for tree in found.provider_trees] == [
        1,
        1,
    ]
    assert not found.is_truncated


@pytest.mark.parametrize(("limit", "read"), [(1, 8), (50, 50), (None, 99)])
def test_as_many_ways_are_read_as_the_operator_allows(limit, read):
    placement = Placement(builders.host("a", 4), ways=99)
    question = builders.question(3, others=PORT)
    found = search.find_trees(question, placement, limit)
    [tree] = found.provider_trees
    assert len(tree.base_allocations) == read
    assert found.is_truncated is (read < 99)


def test_a_question_with_an_answer_too_large_is_asked_in_parts(monkeypatch):
    monkeypatch.setattr(search, "_MOST_DEVICES", 2)
    placement = Placement(builders.host("a", 4, nics=1))
    question = builders.question(3, nics=1)
    found = search.find_trees(question, placement, 1)
    assert [text for text, _ in placement.asked] == [
        question.first_class_query,
        f"resources={GPU}:1",
        f"resources={NIC}:1",
        question.base_query,
    ]
    [tree] = found.provider_trees
    assert [len(devices) for devices in tree.devices] == [4, 1]


def test_devices_that_are_sharing_providers_are_refused():
    summaries = builders.host(
        "a", 4, nics=1, traits={"n0": ["MISC_SHARES_VIA_AGGREGATE"]}
    )
    with pytest.raises(query.NotComposableError, match="sharing"):
        search.find_trees(
            builders.question(3, nics=1), Placement(summaries), 1
        )


def test_so_are_those_beside_groups_that_can_be_served_in_many_ways():
    summaries = builders.host("a", 2)
    summaries["a-g1"]["traits"].append("MISC_SHARES_VIA_AGGREGATE")
    with pytest.raises(query.NotComposableError, match="sharing"):
        search.find_trees(
            builders.question(2, others=PORT), Placement(summaries), None
        )


@pytest.mark.parametrize(
    ("sharing", "ways", "roots"),
    [((), 99, ["b"]), (["s"], 99, ["a", "b"]), ((), 1, ["a", "b"])],
)
def test_of_too_many_ways_trees_that_can_have_none_are_dropped(
    sharing, ways, roots
):
    # Of "a" two GPUs are free. Where not all ways to serve the rest were read,
    # it would be left open whether another one leaves enough.
    summaries = builders.host("a", 3) | builders.host("b", 3)
    summaries["a-g0"]["resources"][GPU]["used"] = 1
    placement = Placement(summaries, ways, sharing)
    question = builders.question(3, others=PORT)
    found = search.find_trees(question, placement, 1)
    assert [tree.root for tree in found.provider_trees] == roots
    assert found.is_truncated is (ways > 1)


class Uneven(Placement):
    """A Placement that has not come to host "b" when an answer is cut off."""

    busy = ()

    def find_candidates(self, text, most, in_turn=False):
        if "in_tree=" in text:
            self.asked.append((text, most))
            root = text.rpartition("in_tree_p=")[2]
            request = builders.request(
                {root: {"VCPU": 1}}, {"": [root], "_p": [root]}
            )
            return {
                "allocation_requests": [request] * (root not in self.busy),
                "provider_summaries": self.summaries,
            }
        found = super().find_candidates(text, None, in_turn)
        by_tree = sorted(
            found["allocation_requests"],
            key=lambda request: "b" in request["mappings"][""],
        )
        return found | {"allocation_requests": by_tree[:most]}


@pytest.mark.parametrize(("busy", "roots"), [((), "ab"), (("b",), "a")])
def test_a_tree_that_a_truncated_answer_does_not_have_is_asked_for(
    busy, roots
):
    placement = Uneven(builders.host("a", 3) | builders.host("b", 3), ways=99)
    placement.able = "ab"
    placement.busy = busy
    question = builders.question(3, others=PORT)
    found = search.find_trees(question, placement, 1)
    assert [tree.root for tree in found.provider_trees] == list(roots)
    assert found.is_truncated
    assert placement.asked[-1] == (
        f"{question.base_query}&in_tree=b&in_tree_p=b",
        8,
    )


def test_no_tree_is_asked_for_where_the_answer_has_all():
    summaries = builders.host("a", 3) | builders.host("b", 3)
    placement = Uneven(summaries, ways=8)
    question = builders.question(3, others=PORT)
    found = search.find_trees(question, placement, 1000)
    assert len(found.provider_trees) == 2
    assert "in_tree" not in str(placement.asked)


def test_hosts_without_devices_do_not_fill_the_answer():
    placement = Placement(builders.host("a", 3) | builders.host("b", 3), 99)
    question = builders.question(3, others=PORT)
    # Sixteen ways are read: eight for each of two trees with devices.
    placement.able = [f"host{i}" for i in range(17)]
    found = search.find_trees(question, placement, 1)
    assert (question.device_and_base_query, 16) in placement.asked
    assert [tree.root for tree in found.provider_trees] == ["a", "b"]
    for tree in found.provider_trees:
        assert [list(devices) for devices in tree.devices] == [
            [f"{tree.root}-g{i}" for i in range(3)]
        ]
        assert {*tree.base_allocations[0].allocations} == {tree.root}
