# SPDX-License-Identifier: Apache-2.0

"""The devices of each class, and what Placement is asked for them."""

import pytest

from nova_gpu_filter.placement import query
from nova_gpu_filter.placement import search
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU

TRAITS = {"g1": ["FAST"], "g2": ["RED"], "g3": ["FAST", "RED"]}
SUMMARIES = builders.host("a", 4, traits=TRAITS) | builders.host(
    "b", 4, traits=TRAITS
)


class Placement:
    """A Placement that finds what is given, and notes what it is asked."""

    def __init__(self, **found):
        self.found = found
        self.asked = []

    def find_providers(self, text):
        self.asked.append(text)
        return self.found.get(
            text.partition("&required=")[2],
            builders.providers(SUMMARIES, GPU),
        )


def question(*classes, first="", others=()):
    """Ask for two GPUs with some traits, and one for each further class."""
    pairs = [f"resources=VCPU:1&group_policy=none&{'&'.join(others)}"]
    for number, traits in enumerate((first, first, *classes)):
        pairs.append(f"resources_g{number}={GPU}:1")
        if traits:
            pairs.append(f"required_g{number}={traits}")
    return query.parse("&".join(pairs), (1, 39))


def find(asked, placement, has_first_class=True):
    found = search.find_devices(
        asked, builders.inner_answer(SUMMARIES), has_first_class, placement
    )
    return found and [
        {root: [d.removeprefix(f"{root}-") for d in of_root]}
        for each in found
        for root, of_root in each.items()
        if root == "b"
    ]


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ("FAST", ["g1", "g3"]),
        ("!FAST", ["g0", "g2"]),
        ("FAST,!RED", ["g1"]),
        ("in:FAST,RED", ["g1", "g2", "g3"]),
    ],
)
@pytest.mark.parametrize("has_first_class", [True, False])
def test_traits_are_read_from_the_summaries(traits, expected, has_first_class):
    placement = Placement()
    *_, found = find(question(traits), placement, has_first_class)
    assert found == {"b": expected}
    assert placement.asked == [f"resources={GPU}:1"] * (not has_first_class)


def test_a_class_that_asks_for_less_is_asked_for_first():
    placement = Placement(FAST={"b": ["b-g1", "b-g3"]})
    found = find(question("FAST", first="!RED,FAST"), placement, False)
    assert found == [{"b": ["g1"]}, {"b": ["g1", "g3"]}]
    assert placement.asked == [f"resources={GPU}:1&required=FAST"]


@pytest.mark.parametrize("traits", ["BLUE", "!BLUE"])
def test_what_placement_may_refuse_it_is_asked(traits):
    placement = Placement()
    find(question(traits), placement)
    assert placement.asked == [f"resources={GPU}:1&required={traits}"]


def test_aggregates_are_not_in_the_summaries():
    aggregate = "aaaaaaaa-0000-4000-8000-000000000001"
    placement = Placement()
    find(question("", others=[f"member_of_g2={aggregate}"]), placement)
    assert placement.asked == [f"member_of={aggregate}&resources={GPU}:1"]


def test_where_no_provider_serves_a_class_no_more_is_asked():
    placement = Placement(BLUE={})
    assert find(question("BLUE", "GREEN,OLD"), placement) is None
    assert len(placement.asked) == 1


def test_devices_of_trees_without_summaries_are_left_out():
    placement = Placement(RED={"a": ["a-g2", "a-g3"], "x": ["x-g2"]})
    found = search.find_devices(
        question("RED,FAST", first="RED"),
        builders.inner_answer(SUMMARIES),
        False,
        placement,
    )
    assert found == [
        {"a": ["a-g2", "a-g3"], "x": ["x-g2"]},
        {"a": ["a-g3"]},
    ]
