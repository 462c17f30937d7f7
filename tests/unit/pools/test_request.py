# SPDX-License-Identifier: Apache-2.0

from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request


def h100s(count=1, alias_name="h100", **fields):
    fields.setdefault("spec", [{"vendor_id": "10de", "product_id": "2330"}])
    fields.setdefault("request_id", uuids.req)
    return request.DeviceRequest.from_nova(
        objects.InstancePCIRequest(
            count=count, alias_name=alias_name, **fields
        )
    )


def pool(**properties):
    return {
        "vendor_id": "10de",
        "product_id": "2330",
        "dev_type": "type-PCI",
        "numa_node": 0,
        "count": 1,
    } | properties


@pytest.mark.parametrize(
    ("spec", "tags", "matches"),
    [
        pytest.param({"vendor_id": "10DE"}, {}, True, id="case-of-request"),
        pytest.param({"model": "sxm"}, {"model": "SXM"}, True, id="of-tag"),
        pytest.param({"model": "sxm"}, {"model": "pcie"}, False, id="other"),
        pytest.param({"model": "sxm"}, {}, False, id="tag-missing"),
        pytest.param({"model": None}, {}, True, id="none-is-missing"),
        pytest.param({"model": None}, {"model": "sxm"}, False, id="none"),
        pytest.param({"numa_node": "0"}, {}, False, id="text-is-no-number"),
        pytest.param({}, {}, True, id="nothing-asked"),
        pytest.param(
            {"resource_class": "CUSTOM_GPU", "traits": "CUSTOM_A"},
            {},
            True,
            id="placement-matched-these",
        ),
    ],
)
def test_properties_are_compared_as_nova_compares_them(spec, tags, matches):
    drop = None if matches else refusal.Drop.PROPERTIES
    assert h100s(spec=[spec]).drop(pool(**tags)) is drop


def test_any_of_several_specs_is_enough():
    asked = h100s(spec=[{"product_id": "20b0"}, {"product_id": "2330"}])
    assert asked.drop(pool(product_id="2330")) is None
    assert asked.drop(pool(product_id="20b0")) is None
    assert asked.drop(pool(product_id="11bf")) is refusal.Drop.PROPERTIES


@pytest.mark.parametrize(
    ("spec", "properties", "drop"),
    [
        ({}, {}, None),
        ({}, {"dev_type": "type-PF"}, refusal.Drop.UNREQUESTED_PF),
        ({"dev_type": "type-PF"}, {"dev_type": "type-PF"}, None),
        ({}, {"dev_type": "vdpa"}, refusal.Drop.UNREQUESTED_VDPA),
        ({"dev_type": "vdpa"}, {"dev_type": "vdpa"}, None),
        ({}, {"remote_managed": "True"}, refusal.Drop.REMOTE_MANAGED),
        ({}, {"remote_managed": "false"}, None),
        ({"remote_managed": "TRUE"}, {"remote_managed": "true"}, None),
        ({"live_migratable": "true"}, {}, refusal.Drop.PROPERTIES),
        (
            {"live_migratable": "true"},
            {"live_migratable": "True"},
            refusal.Drop.LIVE_MIGRATABLE,
        ),
        ({"live_migratable": "true"}, {"live_migratable": "true"}, None),
        ({}, {"live_migratable": "true"}, None),
    ],
)
def test_a_pool_that_matches_may_still_be_dropped(spec, properties, drop):
    assert h100s(spec=[spec]).drop(pool(**properties)) is drop


def test_live_migratable_counts_only_when_every_spec_agrees():
    asked = h100s(spec=[{"live_migratable": "true"}, {"vendor_id": "10de"}])
    assert asked.drop(pool()) is None


class TestProviders:
    def test_come_from_the_groups_of_this_request_one_a_device(self):
        mapping = {
            "": [uuids.root],
            f"{uuids.req}-0": [uuids.gpu0],
            f"{uuids.req}-1": [uuids.gpu1],
            f"{uuids.other}-0": [uuids.nic],
        }
        assert h100s(2).collect_rp_uuids(mapping) == [uuids.gpu0, uuids.gpu1]

    def test_come_from_the_request_when_there_is_no_mapping(self):
        asked = h100s(2, spec=[{"rp_uuids": f"{uuids.gpu0},{uuids.gpu1}"}])
        assert asked.collect_rp_uuids({}) == [uuids.gpu0, uuids.gpu1]
        assert asked.collect_rp_uuids(None) == [uuids.gpu0, uuids.gpu1]

    def test_are_none_without_pci_in_placement(self):
        assert h100s().collect_rp_uuids({"": [uuids.root]}) == []
        assert h100s().collect_rp_uuids(None) == []

    def test_are_none_for_a_neutron_port(self):
        asked = h100s(alias_name=None, spec=[{"rp_uuids": uuids.vf}])
        assert asked.collect_rp_uuids({f"{uuids.req}-0": [uuids.vf]}) == []
        assert asked.collect_rp_uuids(None) == []


def test_numa_policy_defaults_to_legacy():
    assert h100s().numa_policy == "legacy"
    assert h100s(numa_policy=None).numa_policy == "legacy"
    assert h100s(numa_policy="required").numa_policy == "required"


def test_a_request_without_specs_matches_nothing():
    assert h100s(spec=[]).drop(pool()) is refusal.Drop.PROPERTIES
    assert h100s(spec=[]).collect_rp_uuids(None) == []


def test_a_port_request_is_named_after_its_request():
    assert h100s().name == "h100"
    assert uuids.req in h100s(alias_name=None).name
