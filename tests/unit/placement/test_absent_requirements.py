# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import absent
from nova_gpu_filter.placement import query
from nova_gpu_filter.placement.absent import Of
from nova_gpu_filter.placement.absent import Requirement
from tests.unit.placement import builders

ZONE = "aaaaaaaa-0000-4000-8000-000000000001"
TREE = "cccccccc-0000-4000-8000-000000000003"
VCPU = Requirement("resources=VCPU:1", is_resource=True)


@pytest.mark.parametrize(
    ("others", "needs"),
    [
        ([], [VCPU]),
        # A disabled host, and one without a trait.
        (
            ["root_required=!OFF,!OLD,FAST"],
            [
                Requirement("required=OFF", Of.NO_ROOT),
                Requirement("required=OLD", Of.NO_ROOT),
                Requirement("required=FAST", Of.ROOT),
                VCPU,
            ],
        ),
        # An availability zone, and an aggregate of others.
        (
            [f"member_of=in:{ZONE},{TREE}", f"member_of=!{ZONE}"],
            [
                Requirement(f"member_of={ZONE}", Of.NO_ROOT),
                VCPU,
                Requirement(f"member_of=in:{ZONE},{TREE}"),
            ],
        ),
        # Providers of one tree have the required traits together; with a
        # forbidden one a provider gives nothing.
        (
            ["required=FAST,!OLD,!OFF,BIG", "required=in:RED,BLUE"],
            [
                Requirement(
                    "resources=VCPU:1&required=!OLD,!OFF", is_resource=True
                ),
                Requirement("required=FAST"),
                Requirement("required=BIG"),
                Requirement("required=in:RED,BLUE"),
            ],
        ),
        (
            [f"in_tree={TREE}"],
            [
                Requirement(
                    f"resources=VCPU:1&in_tree={TREE}", is_resource=True
                )
            ],
        ),
        # One provider serves a group with a suffix.
        (
            [
                *("resources_p=PORT:2", "required_p=FAST,!OLD"),
                *(f"member_of_p=!{ZONE}", f"in_tree_p={TREE}"),
                "same_subtree=_p",
            ],
            [
                VCPU,
                Requirement(
                    "resources=PORT:2&required=FAST,!OLD"
                    f"&member_of=!{ZONE}&in_tree={TREE}",
                    is_resource=True,
                ),
            ],
        ),
        # Without resources, nothing is known of the tree it asks for.
        (
            [*("required_r=FAST", f"in_tree_r={TREE}"), "same_subtree=_r"],
            [VCPU, Requirement("required=FAST")],
        ),
    ],
)
def test_each_thing_that_the_groups_in_no_class_need_is_a_query(others, needs):
    question = builders.question(2, others=others)
    assert list(absent.find_requirements(question)) == needs


def test_one_tree_is_asked_for_by_the_groups_with_resources():
    others = ["resources_p=PORT:1", "required_r=FAST", "same_subtree=_p,_r"]
    question = builders.question(2, others=others)
    text = absent.build_query_in_tree(question, TREE)
    assert text == (f"{question.base_query}&in_tree={TREE}&in_tree_p={TREE}")


def test_one_tree_is_not_asked_for_where_a_group_asks_for_a_tree():
    question = builders.question(2, others=[f"in_tree={TREE}"])
    with pytest.raises(query.NotComposableError):
        absent.build_query_in_tree(question, TREE)
