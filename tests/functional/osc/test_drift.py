# SPDX-License-Identifier: Apache-2.0

"""openstack gpu drift, on a real Placement."""

import pytest

from tests.functional.osc import worlds
from tests.functional.placement import service


@pytest.fixture
def shaken_cloud(small_cloud):
    """Return a shell on the small cloud, after some accidents.

    A server is gone, the flavor of another says two devices, and a compute
    node was removed.
    """
    compute = worlds.nova()
    compute.servers = [
        {**server, "flavor": {**server["flavor"], "extra_specs": _TWO}}
        if server["name"] == "train-2"
        else server
        for server in compute.servers
        if server["name"] != "train-3"
    ]
    compute.hypervisors.remove(service.provider_uuid("plain-1"))
    in_order = small_cloud.adapters.compute
    small_cloud.adapters.compute = compute
    yield small_cloud
    small_cloud.adapters.compute = in_order


_TWO = {"pci_passthrough:alias": "h100:2"}


def test_a_cloud_in_order_has_no_drift(small_cloud):
    result = small_cloud.run(
        "gpu", "drift", *worlds.alias_options(), "-f", "json"
    )
    assert (result.code, result.out, result.err) == (0, "[]\n", "")


def test_accidents_are_found(shaken_cloud, golden):
    result = shaken_cloud.run(
        *("gpu", "drift", *worlds.alias_options()),
        *("--alias", '{"name": "old", "resource_class": "CUSTOM_K80"}'),
    )
    assert (result.code, result.err) == (0, "")
    golden("drift.txt", result.out)


def test_a_migration_may_have_what_its_server_had(shaken_cloud):
    shaken_cloud.adapters.compute.migrations = [
        {
            "uuid": worlds.consumer("train-3"),
            "instance_uuid": worlds.consumer("train-1"),
            "migration_type": "resize",
            "status": "finished",
            "source_node": "hgx-2",
            "dest_node": "hgx-1",
        }
    ]
    result = shaken_cloud.run("gpu", "drift", *worlds.alias_options())
    assert result.code == 0
    assert "allocation without server" not in result.out


def test_without_aliases_it_is_told_what_is_not_compared(small_cloud):
    result = small_cloud.run("gpu", "drift", "-f", "json")
    assert (result.code, result.out) == (0, "[]\n")
    assert result.err == (
        "/etc/nova/nova.conf is not here: flavors and aliases are not"
        " compared; give --nova-conf <file> or --alias <json>\n"
    )
