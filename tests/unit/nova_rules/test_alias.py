# SPDX-License-Identifier: Apache-2.0

"""Aliases mean here what they mean to Nova, and are refused where it does."""

import json

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies
from nova import exception
from nova.compute import pci_placement_translator
import nova.conf
from nova.pci import request
from oslo_config import fixture
import pytest

from nova_gpu_filter.nova_rules import alias as alias_rules

_VALUES = strategies.one_of(
    strategies.sampled_from(
        [
            *("10de", "10DE", "10d", "10deg", "", "10de\n", "a1", "a" * 257),
            *("type-PCI", "type-PF", "type-VF", "vdpa", "pci", "yes", "no"),
            *("true", "off", "maybe", "legacy", "socket", "required", "any"),
            *("PGPU", "pgpu", "gpu h100", "CUSTOM_H100", "HW_GPU_API_DXR,x"),
            *("٢330", "0x10de", 1, None, True, ["10de"], {}),
        ]
    ),
    strategies.text(max_size=5),
)
_KEYS = strategies.sampled_from(
    [*request._ALIAS_SCHEMA["properties"], "dev_type", "Name"]
)


def _read_with_nova(text, pci_in_placement):
    """Let Nova's own function read one value of the option.

    :returns: (name, NUMA policy, spec); None where it refuses the value.
    """
    with fixture.Config(nova.conf.CONF) as conf:
        conf.config(alias=[text], group="pci")
        conf.config(
            pci_in_placement=pci_in_placement, group="filter_scheduler"
        )
        request.get_alias_from_config.cache_clear()
        try:
            found = request.get_alias_from_config()
        except exception.PciInvalidAlias:
            return None
        finally:
            request.get_alias_from_config.cache_clear()
    [(name, (numa_policy, [spec]))] = found.items()
    return name, numa_policy, spec


def _read_with_ours(text):
    try:
        return alias_rules.parse(text)
    except alias_rules.AliasError:
        return None


def _assert_same(text):
    theirs, ours = _read_with_nova(text, True), _read_with_ours(text)
    assert (ours is None) == (theirs is None), text
    if ours is None:
        # What is refused here is refused by Nova in each of its modes.
        assert _read_with_nova(text, False) is None
        return
    name, numa_policy, spec = theirs
    lower = {"vendor_id", "product_id"}
    assert (ours.name, ours.numa_policy) == (name, numa_policy)
    assert {
        "vendor_id": ours.vendor_id,
        "product_id": ours.product_id,
        "dev_type": ours.device_type,
        "live_migratable": None
        if ours.live_migratable is None
        else str(ours.live_migratable).lower(),
    } == {
        key: spec[key].lower() if key in lower and key in spec else value
        for key, value in {
            "vendor_id": spec.get("vendor_id"),
            "product_id": spec.get("product_id"),
            "dev_type": spec.get("dev_type"),
            "live_migratable": spec.get("live_migratable"),
        }.items()
    }
    # As nova/objects/request_spec.py asks Placement.
    assert ours.resource_class == pci_placement_translator.get_resource_class(
        spec.get("resource_class"),
        spec.get("vendor_id"),
        spec.get("product_id"),
    )
    assert ours.traits == pci_placement_translator.get_traits(
        spec.get("traits", "")
    )


@settings(deadline=None)
@given(
    strategies.dictionaries(_KEYS, _VALUES, max_size=6),
    strategies.sampled_from(
        [
            {},
            {"name": "a1"},
            {"name": " a1 ", "resource_class": "gpu"},
            {"name": "a1", "vendor_id": "10DE", "product_id": "2330"},
        ]
    ),
)
def test_an_alias_is_read_as_nova_reads_it(changes, usual):
    _assert_same(json.dumps({**usual, **changes}))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "resource_class": "PGPU"}',
        '{"name": "a", "resource_class": "pgpu", "traits": "a,HW_NIC_SRIOV"}',
        '{"name": "a", "resource_class": ""}',
        '{"name": "a", "vendor_id": "10de", "product_id": "2330"}',
        '{"name": "a", "vendor_id": "10de"}',
        '{"name": "a"}',
        '{"name": "%s", "resource_class": "A"}' % ("a" * 256),
        '{"name": "%s", "resource_class": "A"}' % ("a" * 257),
        "[]",
        "{",
        "[" * 100_000,
    ],
)
def test_an_alias_of_the_table_is_read_as_nova_reads_it(text):
    _assert_same(text)
