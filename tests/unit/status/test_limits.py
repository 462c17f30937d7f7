# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.status import limits
from nova_gpu_filter.topology import fragmentation

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
    assert limits.read(write(conf, GOOD)).missing == ()


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


def test_options_of_the_extension_are_read(conf):
    defaults = limits.read(write(conf, {}))
    assert defaults.max_sets_per_tree == 16
    assert defaults.request_mix == fragmentation.DEFAULT_MIX
    conf.write_text(
        "[gpu_filter]\nmax_sets_per_tree = 0\nrequest_mix = 2:1,4:3\n"
    )
    found = limits.read(str(conf))
    assert found.max_sets_per_tree == 0
    assert found.request_mix == ((2, 0.25), (4, 0.75))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no section\n",
        "[workarounds]\noptimize_for_wide_provider_trees = maybe\n",
        "[gpu_filter]\nrequest_mix = one:1\n",
    ],
)
def test_what_cannot_be_read_is_named(conf, text):
    if text is not None:
        conf.write_text(text)
    with pytest.raises(limits.UnreadableError, match=r"placement\.conf"):
        limits.read(str(conf))
