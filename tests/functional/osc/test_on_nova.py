# SPDX-License-Identifier: Apache-2.0

"""openstack gpu on a real Nova and Placement, through openstacksdk."""

import json

import pytest

from demo import chapter_topology
from demo import cloud as embedded
from demo import machines
from tests.functional.osc import shell

HOSTS = ("hgx-1", "hgx-2")
ALIAS = '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'


@pytest.fixture(scope="module")
def cloud():
    """Two HGX H100; servers with 2 and 1 GPUs on the first."""
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, extend_placement=True
    ) as running:
        for host in HOSTS:
            running.add_compute(host, machines.hgx_h100())
        for gpus in (1, 2):
            running.create_flavor(
                f"any.{gpus}", {"pci_passthrough:alias": f"h100:{gpus}"}
            )
        yield running


@pytest.fixture(scope="module")
def servers(cloud):
    """By name: two, one."""
    return {
        name: cloud.boot(name, flavor, host=HOSTS[0])
        for name, flavor in (("two", "any.2"), ("one", "any.1"))
    }


@pytest.fixture
def openstack(cloud, servers):
    """Return a function that runs a command and returns its JSON."""
    commands = shell.Shell(shell.connection(cloud))

    def run(*arguments):
        result = commands.run("gpu", *arguments, "-f", "json")
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    return run


def test_devices_are_those_of_nova_with_their_owners(
    openstack, cloud, servers
):
    listed = openstack("device", "list", "--long")
    assert {(row["Host"], row["Address"]) for row in listed} == {
        (device.host, device.address)
        for host in HOSTS
        for device in cloud.devices(host)
    }
    for name, server in servers.items():
        mine = [row for row in listed if row["Server"] == name]
        assert [row["Address"] for row in mine] == embedded.addresses(
            cloud.devices_of(server)
        )
        assert {row["Project"] for row in mine} == {shell.PROJECT}
        assert openstack("device", "list", "--server", name) == [
            {key: row[key] for key in list(row)[:8]} for row in mine
        ]


def test_a_host_counts_what_nova_has_free(openstack, cloud, servers):
    first, second = openstack("host", "list")
    free = [sum(pool["count"] for pool in cloud.pools(h)) for h in HOSTS]
    assert [first["Free"], second["Free"]] == free == [5, 8]
    assert openstack("host", "show", HOSTS[0])["servers"] == {
        "two": 2,
        "one": 1,
    }


def test_as_many_servers_start_as_capacity_says(openstack, cloud, servers):
    def capacity():
        (row,) = openstack("capacity", "--flavor", "any.2", "--alias", ALIAS)
        return row["Servers"]

    number = capacity()
    assert number == 6
    started = cloud.boot_many("more", "any.2", number)
    try:
        assert {server.status for server in started} == {"ACTIVE"}
        assert capacity() == 0
    finally:
        for server in started:
            cloud.delete(server)


def test_the_reasons_are_those_that_the_filter_logs(cloud, servers):
    cloud.create_flavor(
        "odd", {"pci_passthrough:alias": "h100:3", "gpu:link": "fabric"}
    )
    decisions = cloud.decisions()
    assert cloud.boot("odd-1", "odd", host=HOSTS[0]).status == "ERROR"
    (logged,) = [line for line in decisions.refusals() if HOSTS[0] in line]

    commands = shell.Shell(shell.connection(cloud))
    result = commands.run(
        *("gpu", "explain", "--server", "odd-1", "--host", HOSTS[0]),
        *("--alias", ALIAS, "-f", "json"),
    )

    assert result.code == 0
    (row,) = json.loads(result.out)
    (reason,) = row["Reason"]
    assert reason in logged
    assert reason.startswith("no free set with the links asked for: h100 asks")
    assert {line.split()[1] for line in row["Blocked By"]} == {"two", "one"}
    assert result.err.startswith("odd-1: ERROR: No valid host was found.")
    assert f"fit on {HOSTS[0]} with gpu:link=nvlink" in result.err


def test_a_cloud_as_nova_made_it_has_no_drift(openstack, cloud, servers):
    assert openstack("drift", "--alias", ALIAS) == []


def test_what_nova_does_not_know_is_drift(openstack, cloud, servers):
    placement = cloud.services.placement
    device = cloud.devices(HOSTS[1])[0]
    (listed,) = [
        row
        for row in openstack("device", "list", "--long")
        if (row["Host"], row["Address"]) == (HOSTS[1], device.address)
    ]
    nobody = "3a9bd7b1-3a3c-4d0a-8a43-0f5ca1cbd2b6"
    path = f"/allocations/{nobody}"
    claim = {
        "allocations": {
            listed["Provider"]: {"resources": {listed["Resource Class"]: 1}}
        },
        "project_id": shell.PROJECT,
        "user_id": "user",
        "consumer_generation": None,
    }
    placement.put(path, claim, version="1.28")
    try:
        (finding,) = openstack("drift", "--alias", ALIAS)
    finally:
        placement.delete(path, version="1.28")
    assert finding["Kind"] == "allocation without server"
    assert finding["Subject"] == nobody
    assert finding["Finding"].startswith(
        f"has {HOSTS[1]}_{device.address.upper()}, but Nova has no such"
    )


@pytest.mark.parametrize("command", ["device list", "host list"])
def test_a_user_without_permission_is_told(cloud, command):
    reader = shell.Shell(shell.connection(cloud, "reader"))
    result = reader.run("gpu", *command.split())
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Placement refuses GET /resource_providers")
    assert result.err.count("\n") == 1
