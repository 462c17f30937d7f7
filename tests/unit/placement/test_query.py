# SPDX-License-Identifier: Apache-2.0

import sys
import urllib.parse

import pytest

from nova_gpu_filter.placement import query

LATEST = (1, 39)
AGGREGATE = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER_AGGREGATE = "aaaaaaaa-0000-4000-8000-000000000002"
GPU = "resources{}=CUSTOM_GPU:1"
POLICY = "group_policy=none"


def gpus(*suffixes):
    """Pairs of groups that ask for one GPU each."""
    return [GPU.format(suffix) for suffix in suffixes]


def parse(*pairs, microversion=LATEST):
    return query.parse("&".join(pairs), microversion)


def suffixes(question):
    return [group_class.suffixes for group_class in question.classes]


def test_groups_that_ask_for_the_same_are_one_class():
    question = parse("resources=VCPU:4", *gpus("_a", "_b", "_c"), POLICY)
    assert suffixes(question) == [("_a", "_b", "_c")]
    assert question.other_suffixes == ("",)
    assert question.classes[0].resources == (("CUSTOM_GPU", 1),)


def test_suffixes_are_in_the_order_of_their_numbers():
    question = parse(*gpus("_10", "_9", "_1-2", "_1-10", "a", "7"), POLICY)
    assert suffixes(question) == [("7", "_1-2", "_1-10", "_9", "_10", "a")]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("required", "CUSTOM_A,CUSTOM_B", "CUSTOM_B,CUSTOM_A"),
        ("required", "CUSTOM_A,!CUSTOM_B", "!CUSTOM_B,CUSTOM_A"),
        ("required", "in:CUSTOM_A,CUSTOM_B", "in:CUSTOM_B,CUSTOM_A"),
        (
            "member_of",
            f"in:{AGGREGATE},{OTHER_AGGREGATE}",
            f"in:{OTHER_AGGREGATE},{AGGREGATE}",
        ),
        ("member_of", f"!{AGGREGATE}", f"!{AGGREGATE}"),
        ("in_tree", AGGREGATE, AGGREGATE),
    ],
)
def test_the_order_of_terms_does_not_matter(name, first, second):
    question = parse(
        *gpus("_1", "_2"), f"{name}_1={first}", f"{name}_2={second}", POLICY
    )
    assert suffixes(question) == [("_1", "_2")]


def test_the_order_of_resources_and_of_parameters_does_not_matter():
    question = parse(
        "required_2=in:CUSTOM_C,CUSTOM_D",
        "required_2=CUSTOM_B",
        "resources_1=CUSTOM_GPU:1,CUSTOM_SLOT:2",
        "required_1=CUSTOM_B",
        "required_1=in:CUSTOM_D,CUSTOM_C",
        "resources_2=CUSTOM_SLOT:2,CUSTOM_GPU:1",
        POLICY,
    )
    assert suffixes(question) == [("_1", "_2")]


@pytest.mark.parametrize(
    "other",
    [
        "resources_3=CUSTOM_GPU:2",
        "resources_3=CUSTOM_NIC:1",
        "resources_3=CUSTOM_GPU:1,CUSTOM_NIC:1",
        "resources_3=CUSTOM_GPU:1&required_3=CUSTOM_A",
        "resources_3=CUSTOM_GPU:1&required_3=!CUSTOM_A",
        "resources_3=CUSTOM_GPU:1&required_3=in:CUSTOM_A,CUSTOM_B",
        f"resources_3=CUSTOM_GPU:1&member_of_3={AGGREGATE}",
        f"resources_3=CUSTOM_GPU:1&member_of_3=!{AGGREGATE}",
        f"resources_3=CUSTOM_GPU:1&in_tree_3={AGGREGATE}",
    ],
)
def test_a_group_that_asks_for_anything_else_is_a_class_of_its_own(other):
    question = parse(*gpus("_1", "_2"), other, POLICY)
    assert suffixes(question) == [("_1", "_2"), ("_3",)]
    assert question.other_suffixes == ()


def test_required_and_forbidden_traits_differ():
    question = parse(
        *gpus("_1", "_2", "_3", "_4"),
        "required_1=CUSTOM_A",
        "required_2=!CUSTOM_A",
        "required_3=CUSTOM_A",
        "required_4=!CUSTOM_A",
        POLICY,
    )
    assert suffixes(question) == [("_1", "_3"), ("_2", "_4")]


def test_a_required_and_a_forbidden_aggregate_differ():
    with pytest.raises(query.NotComposableError):
        parse(
            *gpus("_1", "_2"),
            f"member_of_1={AGGREGATE}",
            f"member_of_2=!{AGGREGATE}",
            POLICY,
        )


def test_the_largest_class_is_the_first():
    question = parse(
        "resources_1=CUSTOM_NIC:1",
        "resources_2=CUSTOM_NIC:1",
        *gpus("_3", "_4", "_5"),
        POLICY,
    )
    assert suffixes(question) == [("_3", "_4", "_5"), ("_1", "_2")]


def test_groups_of_one_subtree_are_in_no_class():
    question = parse(
        *gpus("_1", "_2", "_3"),
        "resources_nic=CUSTOM_NIC:1",
        "same_subtree=_3, _nic",
        POLICY,
    )
    assert suffixes(question) == [("_1", "_2")]
    assert set(question.other_suffixes) == {"_3", "_nic"}


def test_groups_without_resources_are_in_no_class():
    question = parse(
        *gpus("_1", "_2"),
        "required_numa=HW_NUMA_ROOT",
        "same_subtree=_numa",
        POLICY,
    )
    assert question.other_suffixes == ("_numa",)


@pytest.mark.parametrize(
    ("policy", "isolate"), [("none", False), ("isolate", True)]
)
def test_group_policy_is_read(policy, isolate):
    question = parse(*gpus("_1", "_2"), f"group_policy={policy}")
    assert question.isolate is isolate


def test_limit_is_read():
    assert parse(*gpus("_1", "_2"), POLICY, "limit=17").limit == 17
    assert parse(*gpus("_1", "_2"), POLICY).limit is None


@pytest.mark.parametrize("digits", ["9223372036854775808", "9" * 100])
def test_a_limit_that_no_index_reaches_is_the_greatest_that_one_does(digits):
    limit = parse(*gpus("_1", "_2"), POLICY, f"limit={digits}").limit
    assert limit == sys.maxsize


def test_what_placement_is_asked():
    question = parse(
        "limit=10",
        "resources=VCPU:4,MEMORY_MB:2",
        "required=!COMPUTE_STATUS_DISABLED",
        *gpus("_2", "_1", "_3"),
        "required_1=CUSTOM_A",
        "required_2=CUSTOM_A",
        "required_3=CUSTOM_A",
        "resources_n=CUSTOM_NIC:1",
        "resources_m=CUSTOM_NIC:1",
        "resources_port=CUSTOM_PORT:1",
        f"member_of_port=in%3A{AGGREGATE}",
        "root_required=CUSTOM_RACK",
        POLICY,
    )
    host = [
        "resources=VCPU:4,MEMORY_MB:2",
        "required=!COMPUTE_STATUS_DISABLED",
    ]
    wide = ["root_required=CUSTOM_RACK", POLICY]
    assert question.first_class_query.split("&") == [
        *host,
        "resources_1=CUSTOM_GPU:1",
        "required_1=CUSTOM_A",
        *wide,
    ]
    assert question.base_query.split("&") == [*host, *wide]
    first, second, third = question.classes
    assert question.build_providers_query(first).split("&") == [
        "resources=CUSTOM_GPU:1",
        "required=CUSTOM_A",
    ]
    assert question.build_providers_query(second) == "resources=CUSTOM_NIC:1"
    assert question.build_providers_query(third).split("&") == [
        "resources=CUSTOM_PORT:1",
        f"member_of=in%3A{AGGREGATE}",
    ]
    assert question.build_capable_providers_query(
        first, "CUSTOM_GPU", 3
    ).split("&") == [
        "resources=CUSTOM_GPU:3",
        "required=CUSTOM_A",
    ]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (["resources=VCPU:4,PCPU:1,MEMORY_MB:2,DISK_GB:1"], False),
        ([], False),
        (["resources_n=CUSTOM_NIC:1"], False),
        (["resources=VCPU:4,CUSTOM_GPU:1"], True),
        (["resources_n=CUSTOM_NIC:1", "same_subtree=_n"], True),
    ],
)
def test_where_a_tree_could_serve_the_rest_in_many_ways(others, expected):
    question = parse(*gpus("_1", "_2"), *others, POLICY)
    assert question.has_many_bases is expected


def test_encoded_queries_are_understood_and_passed_on_as_they_were():
    # As urllib, and so Nova, encodes them.
    encoded = urllib.parse.urlencode(
        [
            ("resources", "VCPU:1"),
            ("resources_1", "CUSTOM_GPU:1"),
            ("resources_2", "CUSTOM_GPU:1"),
            ("group_policy", "none"),
        ]
    )
    assert "%3A" in encoded
    question = query.parse(encoded, LATEST)
    assert suffixes(question) == [("_1", "_2")]
    assert question.first_class_query == (
        "resources=VCPU%3A1&resources_1=CUSTOM_GPU%3A1&group_policy=none"
    )


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([*gpus("_1"), POLICY], "no equal groups"),
        (["resources=CUSTOM_GPU:1", *gpus("_1"), POLICY], "no equal groups"),
        ([*gpus("_1", "_2"), "same_subtree=_2", POLICY], "no equal groups"),
        ([*gpus("_1", "_2"), POLICY, "new=1"], "unknown query parameter"),
        ([*gpus("_1", "_2"), POLICY, "resources%0A=VCPU:1"], "unknown"),
        ([*gpus("_1", "_2", "_1"), POLICY], "malformed"),
        ([*gpus("_1", "_2")], "malformed"),
        ([*gpus("_1", "_2"), POLICY, POLICY], "malformed"),
        ([*gpus("_1", "_2"), "group_policy=some"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "limit=0"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "limit=many"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, f"limit={'9' * 5000}"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "limit=1", "limit=2"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "required_1=%FF"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "required_1="], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "required_1=A,,B"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "required_1=in:!A"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "required_1=!!A"], "malformed"),
        ([*gpus("_1", "_2"), POLICY, "member_of_1=x"], "malformed"),
        (
            [*gpus("_1", "_2"), POLICY, f"in_tree_1={AGGREGATE}"] * 2,
            "malformed",
        ),
        (["resources_1=G:0", "resources_2=G:0", POLICY], "malformed"),
        (["resources_1=G", "resources_2=G", POLICY], "malformed"),
        (
            [f"resources_{i}=A:1,B:{'9' * 5000}" for i in (1, 2)] + [POLICY],
            "malformed",
        ),
        (["resources_1=G:1,G:2", "resources_2=G:1", POLICY], "malformed"),
        (
            [
                "resources=VCPU:1,CUSTOM_GPU:1",
                *gpus("_1", "_2"),
                "group_policy=isolate",
            ],
            "isolate with an unsuffixed device",
        ),
    ],
)
def test_what_is_not_understood_is_left_to_placement(pairs, reason):
    with pytest.raises(query.NotComposableError, match=reason):
        parse(*pairs)


@pytest.mark.parametrize("suffixes_", [("_1", "_2"), ("",)])
def test_repeated_traits_mean_another_thing_before_any_traits(suffixes_):
    pairs = ["resources=VCPU:1", *gpus("_1", "_2"), POLICY]
    for suffix in suffixes_:
        pairs += [f"required{suffix}=CUSTOM_{name}" for name in "AB"]
    assert suffixes(parse(*pairs)) == [("_1", "_2")]
    with pytest.raises(query.NotComposableError, match="malformed"):
        parse(*pairs, microversion=(1, 38))


def test_rests_change_first_where_the_device_is_asked_first():
    question = parse(
        "resources=VCPU:1",
        *gpus("_2", "_1"),
        "required_1=CUSTOM_A",
        "required_2=CUSTOM_A",
        "resources_p=PORT:1",
        "same_subtree=_p",
        POLICY,
    )
    pairs = question.device_and_base_query.split("&")
    assert pairs[:2] == ["resources_1=CUSTOM_GPU:1", "required_1=CUSTOM_A"]
    assert sorted(pairs) == sorted(question.first_class_query.split("&"))
