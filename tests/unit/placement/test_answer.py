# SPDX-License-Identifier: Apache-2.0

import json

from nova_gpu_filter.placement import answer
from nova_gpu_filter.placement import candidates
from nova_gpu_filter.placement import trees
from tests.unit.placement import builders
from tests.unit.placement.builders import GPU
from tests.unit.placement.builders import NIC

SUMMARIES = builders.host("a", 3, nics=2) | builders.host("b", 1)


def encode(question, found, summaries=SUMMARIES):
    return json.loads(answer.encode(question, found, summaries))


def base(allocations, mappings):
    return trees.BaseAllocation(allocations, mappings, [])


A_BASE = base({"a": {"VCPU": 1}}, {"": ["a"]})


def test_a_candidate_has_the_form_of_placement():
    found = encode(
        builders.question(2, nics=2),
        [candidates.Candidate(A_BASE, (("a-g0", "a-g2"), ("a-n0", "a-n1")))],
    )
    assert found["allocation_requests"] == [
        builders.request(
            {
                "a": {"VCPU": 1},
                "a-g0": {GPU: 1},
                "a-g2": {GPU: 1},
                "a-n0": {NIC: 1},
                "a-n1": {NIC: 1},
            },
            {
                "": ["a"],
                "_g0": ["a-g0"],
                "_g1": ["a-g2"],
                "_n0": ["a-n0"],
                "_n1": ["a-n1"],
            },
        )
    ]


def test_what_one_provider_gives_to_several_groups_is_summed():
    shared = base(
        {"a": {"VCPU": 1}, "a-g0": {GPU: 2, "SLOT": 1}},
        {"": ["a", "a-g0"]},
    )
    found = encode(
        builders.question(3, amount=2),
        [candidates.Candidate(shared, (("a-g0", "a-g1", "a-g1"),))],
    )
    assert found["allocation_requests"] == [
        builders.request(
            {
                "a": {"VCPU": 1},
                "a-g0": {GPU: 4, "SLOT": 1},
                "a-g1": {GPU: 4},
            },
            {
                "": ["a", "a-g0"],
                "_g0": ["a-g0"],
                "_g1": ["a-g1"],
                "_g2": ["a-g1"],
            },
        )
    ]


def test_the_rest_is_as_it_was_after_a_sum():
    found = encode(
        builders.question(2),
        [
            candidates.Candidate(A_BASE, (found,))
            for found in (("a-g0", "a-g0"), ("a-g0", "a-g1"))
        ],
    )
    assert [r["allocations"]["a"] for r in found["allocation_requests"]] == [
        {"resources": {"VCPU": 1}}
    ] * 2


def test_summaries_of_trees_that_are_not_used_are_left_out():
    question = builders.question(2)
    candidate = candidates.Candidate(A_BASE, (("a-g0", "a-g1"),))
    found = encode(question, [candidate])
    assert found["provider_summaries"] == {
        name: found
        for name, found in SUMMARIES.items()
        if found["root_provider_uuid"] == "a"
    }


def test_no_candidate_is_an_empty_answer():
    assert encode(builders.question(2), []) == {
        "allocation_requests": [],
        "provider_summaries": {},
    }
