# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import trees
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU


def read(question, inner, *others):
    return trees.read(question, inner, None, others)


class Inventories:
    """Answers of Placement about amounts, from the max_unit of inventories."""

    def __init__(self, max_unit_by_provider):
        self.max_unit_by_provider = max_unit_by_provider
        self.asked = []

    def __call__(self, group_class, resource_class, amount):
        self.asked.append((group_class.representative, resource_class, amount))
        return {
            provider
            for provider, max_unit in self.max_unit_by_provider.items()
            if amount <= max_unit
        }


def room(question, summaries, inventories, amount=1):
    inner = builders.inner_answer(summaries, amount)
    found = remaining_capacity.find(
        question, read(question, inner), summaries, inventories
    )
    return {device: resources[GPU] for device, resources in found.items()}


def test_whole_devices_need_no_question():
    summaries = builders.host("a", 3)
    inventories = Inventories({})
    assert room(builders.question(3), summaries, inventories) == {
        "a-g0": 1,
        "a-g1": 1,
        "a-g2": 1,
    }
    assert not inventories.asked


def test_what_is_used_is_not_left():
    summaries = builders.host("a", 1, capacity=(3, 2))
    inventories = Inventories({})
    assert room(builders.question(2), summaries, inventories) == {"a-g0": 1}
    assert not inventories.asked


def test_isolated_groups_need_no_question():
    summaries = builders.host("a", 1, capacity=8)
    inventories = Inventories({})
    question = builders.question(3, policy="isolate")
    assert room(question, summaries, inventories) == {"a-g0": 8}
    assert not inventories.asked


@pytest.mark.parametrize(
    ("max_unit", "expected", "questions"),
    [(8, 8, 1), (6, 6, 4), (1, 1, 3), (2, 2, 4)],
)
def test_max_unit_is_found_with_few_questions(max_unit, expected, questions):
    summaries = builders.host("a", 1, capacity=8)
    inventories = Inventories({"a-g0": max_unit})
    question = builders.question(8)
    assert room(question, summaries, inventories) == {"a-g0": expected}
    assert len(inventories.asked) == questions
    assert inventories.asked[0] == ("_g0", GPU, 8)


def test_one_question_serves_all_devices_that_it_tells_of():
    summaries = builders.host("a", 8, capacity=4)
    inventories = Inventories({f"a-g{i}": 4 for i in range(8)})
    question = builders.question(4)
    assert set(room(question, summaries, inventories).values()) == {4}
    assert len(inventories.asked) == 1


def test_a_device_that_can_give_more_than_is_asked_needs_no_question():
    summaries = builders.host("a", 1, capacity=7) | builders.host(
        "b", 1, capacity=8
    )
    inventories = Inventories({"a-g0": 9, "b-g0": 9})
    question = builders.question(8)
    assert room(question, summaries, inventories) == {"a-g0": 7, "b-g0": 8}
    assert inventories.asked == [("_g0", GPU, 8)]


def test_only_sums_that_can_occur_are_asked_for():
    # Two groups of 3 on a device with 8: nothing but 6 is in doubt.
    summaries = builders.host("a", 1, capacity=8)
    inventories = Inventories({"a-g0": 5})
    question = builders.question(2, amount=3)
    assert room(question, summaries, inventories, amount=3) == {"a-g0": 3}
    assert inventories.asked == [("_g0", GPU, 6)]


def test_what_the_rest_takes_of_a_device_counts():
    summaries = {
        "a": builders.summary("a", {"VCPU": 4}),
        "g": builders.summary("a", {GPU: (8, 4)}),
    }
    question = builders.question(2, unsuffixed=f"VCPU:1,{GPU}:2")
    inner = {
        "allocation_requests": [
            builders.request(
                {"a": {"VCPU": 1}, "g": {GPU: 3}},
                {"": ["a", "g"], "_g0": ["g"]},
            )
        ],
        "provider_summaries": summaries,
    }
    inventories = Inventories({"g": 3})
    found = remaining_capacity.find(
        question, read(question, inner), summaries, inventories
    )
    assert found == {"g": {GPU: 3}}
    assert [amount for *_, amount in inventories.asked] == [4, 3]
