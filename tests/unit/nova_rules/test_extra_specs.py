# SPDX-License-Identifier: Apache-2.0

"""What flavors ask of aliases, as Nova reads it."""

import pytest

from nova_gpu_filter.nova_rules import extra_specs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h100:4", [("h100", 4)]),
        ("h100:4,cx7:4", [("h100", 4), ("cx7", 4)]),
        (" h100 : 2 ", [("h100", 2)]),
        (None, []),
    ],
)
def test_a_flavor_asks_for_devices_of_aliases(text, expected):
    specs = {} if text is None else {extra_specs.ALIAS_KEY: text}
    assert [
        (a.alias, a.count) for a in extra_specs.parse_device_counts(specs)
    ] == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("h100", "'h100' is not <alias>:<number>"),
        ("h100:1:2", "'h100:1:2' is not"),
        (":1", "':1' is not"),
        ("h100:x", "'x' is no number"),
        ("h100:0", "'0' is no number of devices, 1 or more"),
        ("h100:-1", "'-1' is no number"),
        ("", "'' is not <alias>:<number>"),
    ],
)
def test_what_nova_cannot_read_of_a_flavor_is_named(text, problem):
    with pytest.raises(ValueError, match=problem):
        extra_specs.parse_device_counts({extra_specs.ALIAS_KEY: text})
