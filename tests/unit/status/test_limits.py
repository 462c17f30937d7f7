# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.status import limits

GOOD = {
    "max_allocation_candidates": ("placement", "1000"),
    "allocation_candidates_generation_strategy": (
        "placement",
        "breadth-first",
    ),
    "optimize_for_wide_provider_trees": ("workarounds", "true"),
}


def write(path, values):
    """Write a placement.conf."""
    path.write_text(
        "".join(
            f"[{group}]\n{name} = {value}\n"
            for name, (group, value) in values.items()
        )
    )
    return str(path)


@pytest.fixture
def conf(tmp_path):
    return tmp_path / "placement.conf"


def test_the_three_options_are_enough(conf):
    assert limits.read(write(conf, GOOD)) == limits.Limits((), 16)


def test_defaults_are_not_enough(conf):
    assert limits.read(write(conf, {})).missing == tuple(limits.CURE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_allocation_candidates", "-1"),
        ("max_allocation_candidates", "100000"),
        ("allocation_candidates_generation_strategy", "depth-first"),
        ("optimize_for_wide_provider_trees", "false"),
    ],
)
def test_an_option_with_another_value_is_missed(conf, name, value):
    group = GOOD[name][0]
    path = write(conf, {**GOOD, name: (group, value)})
    assert limits.read(path).missing == (name,)


def test_the_cures_are_what_is_looked_for(conf):
    lines = []
    for cure in limits.CURE.values():
        group, _, line = cure.partition("]")
        lines += [f"{group}]", line]
    conf.write_text("\n".join(lines) + "\n")
    assert limits.read(str(conf)).missing == ()


def test_an_extension_that_is_turned_off_is_seen(conf):
    path = write(conf, {"max_sets_per_tree": ("gpu_filter", "0")})
    assert limits.read(path).max_sets_per_tree == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no section\n",
        "[workarounds]\noptimize_for_wide_provider_trees = maybe\n",
    ],
)
def test_what_cannot_be_read_is_named(conf, text):
    if text is not None:
        conf.write_text(text)
    with pytest.raises(limits.UnreadableError, match=r"placement\.conf"):
        limits.read(str(conf))
