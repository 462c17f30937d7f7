# SPDX-License-Identifier: Apache-2.0

"""The aliases that files and options give."""

import json

import pytest

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.nova_rules.alias import Alias


def _parse(**alias):
    return known_aliases.parse([json.dumps(alias)], "nova.conf")


def test_an_alias_by_ids_means_the_class_that_nova_makes_of_them():
    found = _parse(name="h100", vendor_id="10de", product_id="2330")
    assert found == {
        "h100": Alias(
            "h100",
            "CUSTOM_PCI_10DE_2330",
            vendor_id="10de",
            product_id="2330",
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
    assert found["h100"] == Alias(
        "h100",
        "CUSTOM_GPU_H100",
        frozenset({"CUSTOM_HW_GPU_API_VULKAN", "CUSTOM_FAST"}),
        "required",
        device_type="type-PF",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "no JSON object"),
        ('{"vendor_id": "10de", "product_id": "2330"}', "it has no name"),
        ('{"name": "a", "vendor_id": "10de"}', "neither resource_class nor"),
        ('{"name": "a", "vendor_id": "10d"}', "vendor_id is '10d', not four"),
        ('{"name": "a", "resource_class": 1}', "resource_class is no string"),
        ('{"name": "a", "clas": "x"}', "unknown key clas"),
    ],
)
def test_what_nova_would_refuse_is_named(text, problem):
    with pytest.raises(errors.BadAlias, match=problem) as caught:
        known_aliases.parse([text], "nova.conf")
    assert str(caught.value).startswith(f"nova.conf: alias {text}: ")


def test_two_specs_of_one_name_are_refused():
    specs = [
        '{"name": "a", "resource_class": "A"}',
        '{"name": "a", "resource_class": "B"}',
    ]
    with pytest.raises(errors.BadAlias, match="there is another alias 'a'"):
        known_aliases.parse(specs, "nova.conf")
    assert len(known_aliases.parse([specs[0], specs[0]], "nova.conf")) == 1
