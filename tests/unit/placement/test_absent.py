# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import absent
from nova_gpu_filter.placement import query
from tests.unit.placement import builders

PORT = ["resources_p=PORT:1", "same_subtree=_p"]


class Placement:
    """A Placement of which some trees have some things."""

    def __init__(self, found):
        """Take query of providers -> providers by root; others have none."""
        self._found = found
        self.asked = []
        self.trees = []

    def find_providers(self, text):
        self.asked.append(text)
        return self._found.get(text, {})

    def find_candidates(self, text, most):
        self.trees.append(text.rpartition("=")[2])
        return {"allocation_requests": [], "provider_summaries": {}}


def _find(placement, roots, *others, sharing=()):
    question = builders.question(2, others=[*PORT, *others])
    return list(absent.find_able(question, roots, sharing, placement, 8))


def _each(roots, number=1):
    return {root: [f"{root}{i}" for i in range(number)] for root in roots}


@pytest.mark.parametrize(
    ("found", "roots"),
    [
        ({"resources=VCPU:1": _each("bc")}, "bc"),
        ({"required=OFF": {"b": ["b"]}}, "ac"),
        # Not of the host itself.
        ({"required=OFF": {"b": ["b0"]}}, "abc"),
        ({"required=FAST": {"b": ["b"], "c": ["c0"]}}, "b"),
    ],
)
def test_trees_that_lack_something_are_not_asked_for(found, roots):
    everything = {
        "resources=VCPU:1": _each("abc"),
        "resources=PORT:1": _each("abc"),
        "required=OFF": {},
        "required=FAST": {root: [root] for root in "abc"},
    }
    placement = Placement(everything | found)
    text = "root_required=FAST,!OFF"
    assert _find(placement, "abc", text) == []
    assert placement.trees == list(roots)


def test_no_more_is_asked_than_it_takes():
    placement = Placement({})
    assert _find(placement, "abc") == []
    assert placement.asked == ["resources=VCPU:1"]
    assert _find(placement, "") == []
    assert len(placement.asked) == 1


def test_where_a_sharing_provider_has_something_all_trees_may():
    vcpu = _each("bc") | {"shared": ["shared"]}
    placement = Placement({"resources=VCPU:1": vcpu})
    # Of a tree, sharing providers are no part: none is asked for.
    with pytest.raises(query.TooManyError):
        _find(
            Placement({"resources=VCPU:1": vcpu, "resources=PORT:1": vcpu}),
            "bc",
            sharing=["shared"],
        )
    # That no port is there leaves out all of them.
    assert _find(placement, "abc", sharing=["shared"]) == []
    assert placement.asked == ["resources=VCPU:1", "resources=PORT:1"]


@pytest.mark.parametrize(
    ("trees", "ports", "is_asked"),
    [(64, 1, True), (65, 1, False), (1, 5000, True), (1, 5001, False)],
)
def test_what_takes_long_is_not_asked(trees, ports, is_asked):
    roots = [f"host{i}" for i in range(trees)]
    placement = Placement(
        {
            "resources=VCPU:1": _each(roots),
            "resources=PORT:1": _each(roots, ports),
        }
    )
    if is_asked:
        assert _find(placement, roots) == []
    else:
        with pytest.raises(query.TooManyError):
            _find(placement, roots)
    assert placement.trees == roots * is_asked


@pytest.mark.parametrize(
    ("most", "exceeds", "asked"), [(2, True, 2), (3, False, 2), (9, False, 1)]
)
def test_an_answer_may_not_have_all_trees(most, exceeds, asked):
    placement = Placement(
        {
            "resources=VCPU:1": _each("abcdefg"),
            "resources=PORT:1": _each("abcxyz", 4),
        }
    )
    question = builders.question(2, others=PORT)
    assert absent.can_exceed(question, most, placement) is exceeds
    assert len(placement.asked) == asked


def test_groups_without_resources_say_nothing_of_how_many_trees():
    placement = Placement({"resources=VCPU:1": _each("abc")})
    question = builders.question(2, others=["required_r=A", "same_subtree=_r"])
    assert absent.can_exceed(question, 2, placement)
    assert placement.asked == ["resources=VCPU:1"]
