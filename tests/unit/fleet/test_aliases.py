# SPDX-License-Identifier: Apache-2.0

"""Aliases and what flavors ask of them, as Nova reads both."""

import json

import pytest

from nova_gpu_filter.fleet import aliases
from nova_gpu_filter.fleet import errors


def _parse(**alias):
    return aliases.parse([json.dumps(alias)], "nova.conf")


def test_an_alias_by_ids_means_the_class_that_nova_makes_of_them():
    found = _parse(name="h100", vendor_id="10de", product_id="2330")
    assert found == {
        "h100": aliases.Alias(
            "h100",
            "CUSTOM_PCI_10DE_2330",
            frozenset(),
            properties=(("vendor_id", "10de"), ("product_id", "2330")),
        )
    }


def test_an_alias_by_class_needs_no_ids():
    found = _parse(
        name="h100",
        resource_class="gpu_h100",
        traits="hw_gpu_api_vulkan,fast",
        device_type="type-PF",
        numa_policy="required",
    )
    assert found["h100"] == aliases.Alias(
        "h100",
        "CUSTOM_GPU_H100",
        frozenset({"CUSTOM_HW_GPU_API_VULKAN", "CUSTOM_FAST"}),
        "required",
        (("dev_type", "type-pf"),),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "no JSON object"),
        ('{"vendor_id": "10de", "product_id": "2330"}', "no name"),
        ('{"name": "a", "vendor_id": "10de"}', "neither resource_class nor"),
        ('{"name": "a", "vendor_id": "10d"}', "'10d' is no PCI id"),
        ('{"name": "a", "resource_class": 1}', "resource_class is no string"),
        ('{"name": "a", "clas": "x"}', "unknown clas"),
    ],
)
def test_what_nova_would_refuse_is_named(text, problem):
    with pytest.raises(errors.BadAlias, match=problem) as caught:
        aliases.parse([text], "nova.conf")
    assert str(caught.value).startswith(f"nova.conf: alias {text}: ")


def test_two_specs_of_one_name_are_refused():
    specs = [
        '{"name": "a", "resource_class": "A"}',
        '{"name": "a", "resource_class": "B"}',
    ]
    with pytest.raises(errors.BadAlias, match="there is another alias 'a'"):
        aliases.parse(specs, "nova.conf")
    assert len(aliases.parse([specs[0], specs[0]], "nova.conf")) == 1


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
    specs = {} if text is None else {aliases.ALIAS_KEY: text}
    assert [(a.alias, a.count) for a in aliases.asks(specs)] == expected


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
        aliases.asks({aliases.ALIAS_KEY: text})
