# SPDX-License-Identifier: Apache-2.0

"""Which limits keep a server out, by what nova.conf says of them."""

import pytest

from nova_gpu_filter.fleet import quota
from tests.unit.fleet.test_capacity import wanted

H100 = "class:CUSTOM_GPU_H100"
UNIFIED = quota.Rules(is_unified=True)
LEGACY = quota.Rules(is_unified=False)
OLD = quota.Rules(is_unified=True, counts_aliases=False)
IGNORE = quota.Rules(is_unified=True, strategy="ignore")


def _find(rules, defaults, own=(), legacy=(), used=3, devices="h100:2"):
    found = quota.find_shortages(
        wanted(devices),
        "p",
        quota.Limits(dict(defaults), {("p", n): v for n, v in own}),
        {"CUSTOM_GPU_H100": used, "VCPU": 1},
        dict(legacy),
        rules,
    )
    return [(short.resource, short.limit) for short in found]


@pytest.mark.parametrize(
    ("rules", "limits", "expected"),
    [
        # Not known: what anybody has registered may be enforced.
        (quota.Rules(), {"defaults": {H100: 4}}, [(H100, 4)]),
        (UNIFIED, {"defaults": {H100: 4}}, [(H100, 4)]),
        (UNIFIED, {"defaults": {H100: 5}}, []),
        (UNIFIED, {"defaults": {H100: 0}}, [(H100, 0)]),
        (UNIFIED, {"defaults": {H100: -1}}, []),
        (UNIFIED, {"defaults": {H100: 0}, "own": {H100: 9}.items()}, []),
        (UNIFIED, {"defaults": {H100: 0}, "own": {H100: -1}.items()}, []),
        (
            UNIFIED,
            {"defaults": {H100: 9}, "own": {H100: 0}.items()},
            [(H100, 0)],
        ),
        # Nova does not look at them.
        (LEGACY, {"defaults": {H100: 0}}, []),
        (LEGACY, {"defaults": {}, "legacy": {"cores": (0, 0)}},
         [("cores", 0)]),
        # Before Nova 34, devices of aliases do not count.
        (OLD, {"defaults": {H100: 0}}, []),
        (OLD, {"defaults": {"class:VCPU": 1}}, [("class:VCPU", 1)]),
        # Quota sets say 0 for what is not registered; Keystone decides.
        (UNIFIED, {"defaults": {"servers": 9}, "legacy": {"cores": (0, 0)}},
         []),
        (
            UNIFIED,
            {"defaults": {"servers": 2}, "legacy": {"instances": (2, 2)}},
            [("servers", 2)],
        ),
        # What is not registered counts as 0 where it is required.
        (
            UNIFIED,
            {"defaults": {H100: 9}, "legacy": {"instances": (0, 0)}},
            [("servers", 0)],
        ),
        (
            IGNORE,
            {"defaults": {"class:VCPU": 9, "class:MEMORY_MB": -1,
                          "class:DISK_GB": -1}},
            [(H100, 0)],
        ),
    ],
)  # fmt: skip
def test_what_is_enforced(rules, limits, expected):
    assert _find(rules, **limits) == expected


def test_a_limit_that_nobody_registered_is_told_apart():
    (short,) = quota.find_shortages(
        wanted("h100:2"),
        "p",
        quota.Limits({"servers": 9}, {}),
        {},
        {},
        quota.Rules(is_unified=True, listed=frozenset({"servers", H100})),
    )
    assert not short.is_registered


def test_limits_that_are_not_known_are_no_zeros():
    assert not quota.find_shortages(
        wanted("h100:2"), "p", None, {}, {}, IGNORE
    )
