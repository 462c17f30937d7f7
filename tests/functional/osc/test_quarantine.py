# SPDX-License-Identifier: Apache-2.0

"""openstack gpu device quarantine and release, on a real Placement."""

import json

import pytest

from nova_gpu_filter.fleet import reserving
from tests.functional.osc import worlds
from tests.functional.placement import service


def _state(cloud, device):
    result = cloud.run("gpu", "device", "show", device, "-f", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)["state"]


def _devices(cloud, state, host="hgx-2"):
    result = cloud.run("gpu", "device", "list", "--host", host, "-f", "json")
    return [
        f"{one['Host']}_{one['Address']}"
        for one in json.loads(result.out)
        if one["State"] == state
    ]


@pytest.fixture
def cloud():
    with service.Placement() as placement:
        yield worlds.build(placement)


def _change(cloud, word, *devices):
    result = cloud.run("gpu", "device", word, *devices)
    assert (result.code, result.out) == (0, "")
    return result.err


def test_a_free_device_is_quarantined_and_released_twice(cloud):
    device, *_ = _devices(cloud, "free")
    for _ in range(2):
        assert _change(cloud, "quarantine", device) == ""
        assert _state(cloud, device) == "quarantined"
    for _ in range(2):
        assert _change(cloud, "release", device) == ""
        assert _state(cloud, device) == "free"


def test_several_are_changed_at_once_or_none_if_one_is_unknown(cloud):
    free = _devices(cloud, "free")[:2]
    result = cloud.run("gpu", "device", "quarantine", *free, "hgx-2_none")
    assert result.code == 1
    assert "hgx-2_none" in result.err
    assert _devices(cloud, "quarantined") == []
    _change(cloud, "quarantine", *free)
    assert _devices(cloud, "quarantined") == free


def test_a_device_in_use_stays_with_its_server(cloud):
    used, *_ = _devices(cloud, "used")
    _change(cloud, "quarantine", used)
    assert _state(cloud, used) == "used"
    _change(cloud, "release", used)
    assert _state(cloud, used) == "used"


def test_release_is_left_to_the_agent_where_there_is_one(cloud):
    device, *_ = _devices(cloud, "free")
    shown = cloud.run("gpu", "device", "show", device, "-f", "json")
    uuid = json.loads(shown.out)["provider"]
    services = cloud.services
    reserving.change_aggregates(
        services.placement,
        services.write_placement,
        uuid,
        add=frozenset({reserving.Mark.MANAGED}),
    )
    _change(cloud, "quarantine", device)
    assert "the agent on its host cleans it first" in _change(
        cloud, "release", device
    )
    assert _state(cloud, device) == "cleaning"


def _drift(cloud):
    result = cloud.run("gpu", "drift", *worlds.alias_options(), "-f", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_drift_names_what_is_reserved_without_a_reason(cloud):
    device, *_ = _devices(cloud, "free")
    shown = cloud.run("gpu", "device", "show", device, "-f", "json")
    uuid = json.loads(shown.out)["provider"]
    services = cloud.services
    reserving.reserve(services.placement, services.write_placement, uuid)
    [found] = _drift(cloud)
    assert found["Kind"] == "reserved without a reason"
    assert f"openstack gpu device release {device}" in found["Finding"]
    _change(cloud, "quarantine", device)
    assert _drift(cloud) == []


def test_explain_says_how_a_quarantined_device_would_help(cloud):
    _change(cloud, "quarantine", *_devices(cloud, "free"))
    _change(cloud, "quarantine", *_devices(cloud, "free", "hgx-1"))
    result = cloud.run(
        "gpu", "explain", "--flavor", "h100.4", *worlds.alias_options()
    )
    assert "quarantined" in result.out
    assert "openstack gpu device release" in result.out
