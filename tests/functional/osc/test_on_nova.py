# SPDX-License-Identifier: Apache-2.0

"""openstack gpu on a real Nova and Placement, through openstacksdk."""

import contextlib
import json

import pytest

from demo import cloud_reader
from tests.functional.osc import shell
from tests.functional.osc import two_hgx

HOSTS, ALIAS = two_hgx.HOSTS, two_hgx.ALIAS


@pytest.fixture(scope="module")
def cloud():
    """Two HGX H100; servers with 2 and 1 GPUs on the first."""
    with two_hgx.run((1, 2)) as running:
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
        assert [row["Address"] for row in mine] == cloud_reader.addresses(
            cloud.list_devices(server)
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


def test_a_size_that_no_partition_has_can_never_fit(cloud, servers):
    cloud.create_flavor(
        "odd", {"pci_passthrough:alias": "h100:3", "gpu:link": "fabric"}
    )
    decisions = cloud.decisions()
    assert cloud.boot("odd-1", "odd", host=HOSTS[0]).status == "ERROR"
    assert [line for line in decisions.refusals() if HOSTS[0] in line]

    commands = shell.Shell(shell.connection(cloud))
    result = commands.run(
        *("gpu", "explain", "--server", "odd-1", "--host", HOSTS[0]),
        *("--alias", ALIAS, "-f", "json"),
    )

    assert result.code == 0
    (row,) = json.loads(result.out)
    (reason,) = row["Reason"]
    assert reason.startswith("can never fit: h100:3 with gpu:link=fabric")
    assert "1, 2, 4, 8 devices" in reason
    assert row["Blocked By"] == []
    assert result.err.startswith("odd-1: ERROR: No valid host was found.")
    assert f"fit on {HOSTS[0]} with gpu:link=nvlink" in result.err


def test_a_cloud_as_nova_made_it_has_no_drift(openstack, cloud, servers):
    assert openstack("drift", "--alias", ALIAS) == []


def test_what_nova_does_not_know_is_drift(openstack, cloud, servers):
    placement = cloud.services.placement
    device = cloud.devices(HOSTS[1])[0]
    columns = ("-c", "Host", "-c", "Address", "-c", "Resource Class")
    columns += ("-c", "Provider")
    (listed,) = [
        row
        for row in openstack("device", "list", *columns)
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


@contextlib.contextmanager
def compute_service(cloud, host, **changes):
    """Change a nova-compute by the API, as an operator does."""
    api = cloud.services.api

    def put(body):
        api.api_put(f"/os-services/{uuid}", body)

    [uuid] = [
        found["id"]
        for found in api.api_get("/os-services").body["services"]
        if found["binary"] == "nova-compute" and found["host"] == host
    ]
    put(changes)
    try:
        yield
    finally:
        put({"status": "enabled", "forced_down": False})


def _explain(cloud, *arguments):
    result = shell.Shell(shell.connection(cloud)).run(
        "gpu", "explain", *arguments, "--alias", ALIAS, "-f", "json"
    )
    assert result.code == 0, result.err
    rows = {row["Host"]: row for row in json.loads(result.out)}
    return rows, result.err


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"forced_down": True}, "forced down", "nova-compute is forced down"),
        ({"status": "disabled"}, "disabled", "nova-compute is disabled"),
    ],
)
def test_nothing_counts_on_a_host_that_takes_no_servers(
    openstack, cloud, servers, changes, status, reason
):
    with compute_service(cloud, HOSTS[1], **changes):
        row = openstack("host", "list")[1]
        assert (row["Host"], row["Status"]) == (HOSTS[1], status)
        assert (row["Free"], row["Unavailable"]) == (0, 8)
        assert row["Largest Set"] in ({}, dict.fromkeys(row["Largest Set"], 0))
        assert {
            device["State"]
            for device in openstack("device", "list", "--host", HOSTS[1])
        } == {"unavailable"}
        (fitting,) = openstack(
            "capacity", "--flavor", "any.2", "--alias", ALIAS
        )
        assert (fitting["Servers"], fitting["Hosts"]) == (2, 1)
        assert cloud.boot("gone", "any.2", host=HOSTS[1]).status == "ERROR"
        rows, _ = _explain(cloud, "--flavor", "any.2")
        assert rows[HOSTS[1]]["Reason"] == [reason]
        assert rows[HOSTS[1]]["Blocked By"] == []
    assert openstack("host", "list")[1]["Free"] == 8


def test_a_used_gpu_is_no_cause_where_the_flavor_asks_for_too_much(
    cloud, servers
):
    """The trait keeps it from both hosts; GPUs are used on the first."""
    cloud.create_flavor(
        "fast",
        {
            "pci_passthrough:alias": "h100:2",
            "trait:CUSTOM_FAST": "required",
        },
    )
    assert cloud.boot("fast-1", "fast").status == "ERROR"
    rows, _ = _explain(cloud, "--server", "fast-1")
    for host in HOSTS:
        assert rows[host]["Reason"] == ["trait CUSTOM_FAST is required"]
        assert rows[host]["Blocked By"] == []
        assert rows[host]["Would Fit"] == ["with trait CUSTOM_FAST"]
    root = cloud.services.compute_rp_uuids[HOSTS[0]]
    traits = cloud.services._get_provider_traits(root)
    cloud.services._create_trait("CUSTOM_FAST")
    cloud.services._set_provider_traits(root, [*traits, "CUSTOM_FAST"])
    try:
        server = cloud.boot("fast-2", "fast")
        assert (server.status, server.host) == ("ACTIVE", HOSTS[0])
        cloud.delete(server)
    finally:
        cloud.services._set_provider_traits(root, traits)


def test_causes_of_aggregates_zones_and_tenants(cloud, servers):
    """Each is found, and what removes it lets the server in."""
    api = cloud.services.api

    def aggregate(name, zone=None, metadata=()):
        body = {"aggregate": {"name": name, "availability_zone": zone}}
        made = api.post_aggregate(body)
        if metadata:
            action = {"set_metadata": {"metadata": dict(metadata)}}
            api.post_aggregate_action(made["id"], action)
        api.add_host_to_aggregate(made["id"], HOSTS[1])
        return made["id"]

    def remove(id_):
        body = {"remove_host": {"host": HOSTS[1]}}
        api.post_aggregate_action(id_, body)
        api.delete_aggregate(id_)

    zone = aggregate("zone", "az-2")
    try:
        arguments = ("--flavor", "any.2", "--availability-zone", "nova")
        rows, _ = _explain(cloud, *arguments)
        assert rows[HOSTS[0]]["Servers"] == 2
        assert rows[HOSTS[1]]["Reason"] == [
            "it is in availability zone az-2, not nova"
        ]
    finally:
        remove(zone)
    kept = aggregate("kept", metadata={"filter_tenant_id": "somebody"})
    try:
        rows, _ = _explain(cloud, "--server", "two")
        assert rows[HOSTS[1]]["Reason"] == [
            f"aggregate kept is kept for other projects than {shell.PROJECT}"
        ]
        assert rows[HOSTS[0]]["Servers"] == 2
    finally:
        remove(kept)
    rows, _ = _explain(cloud, "--server", "two")
    assert rows[HOSTS[1]]["Servers"] == 4


def test_quota_keeps_servers_out(cloud, servers):
    api = cloud.services.api
    quota = f"/os-quota-sets/{shell.PROJECT}"
    api.api_put(quota, {"quota_set": {"instances": 2, "force": True}})
    try:
        rows, _ = _explain(cloud, "--server", "two")
        for host in HOSTS:
            assert rows[host]["Servers"] == 0
            assert rows[host]["Blocked By"] == []
            [reason] = rows[host]["Reason"]
            assert reason.startswith(f"quota of project {shell.PROJECT}:")
            assert "instances: 1 asked" in reason
    finally:
        api.api_delete(quota)


def test_servers_of_one_name_are_told_apart(openstack, cloud, servers):
    twins = [cloud.boot("twin", "any.1", host=HOSTS[1]) for _ in range(2)]
    try:
        labels = {f"twin ({server.uuid[:8]})" for server in twins}
        assert openstack("host", "show", HOSTS[1])["servers"] == (
            dict.fromkeys(labels, 1)
        )
        listed = openstack("device", "list", "--host", HOSTS[1])
        assert {row["Server"] for row in listed} == {"", *labels}
        drawn = shell.Shell(shell.connection(cloud)).run(
            "gpu", "topology", "show", HOSTS[1]
        )
        assert all(label in drawn.out for label in labels)
        cloud.create_flavor("any.8", {"pci_passthrough:alias": "h100:8"})
        rows, _ = _explain(cloud, "--flavor", "any.8")
        assert set(rows[HOSTS[1]]["Blocked By"]) == {
            f"{label}: 1 device" for label in labels
        }
    finally:
        for server in twins:
            cloud.delete(server)


def test_a_resize_that_waits_has_two_ends_and_confirming_it_is_a_cure(
    openstack, cloud, servers
):
    cloud.create_flavor("any.4", {"pci_passthrough:alias": "h100:4"})
    cloud.create_flavor("all.8", {"pci_passthrough:alias": "h100:8"})
    server = cloud.boot("infer", "any.4", host=HOSTS[1])
    server = cloud.migrate(server, HOSTS[0])
    try:
        both = openstack("device", "list", "--server", "infer")
        assert {row["Host"] for row in both} == set(HOSTS)
        assert len(both) == 8
        assert {row["Server"] for row in both} == {
            "infer (migration, source)",
            "infer (migration, target)",
        }
        assert openstack("host", "show", HOSTS[1])["servers"] == {
            "infer (migration, source)": 4
        }
        rows, err = _explain(cloud, "--flavor", "all.8")
        assert rows[HOSTS[1]]["Blocked By"] == [
            "infer (migration, source): 4 devices"
        ]
        [first, *_] = rows[HOSTS[1]]["Would Fit"]
        assert first == "with the migration of infer confirmed"
        assert f"it would fit on {HOSTS[1]} {first}" in err
        assert openstack("drift", "--alias", ALIAS) == []
        cloud.confirm(server)
        rows, _ = _explain(cloud, "--flavor", "all.8")
        assert rows[HOSTS[1]]["Servers"] == 1
    finally:
        cloud.delete(server)


def _set_image_property(server, name, value):
    """Have a server made from an image with some property."""
    from nova import context
    from nova import objects

    admin = context.get_admin_context()
    mapping = objects.InstanceMapping.get_by_instance_uuid(admin, server.uuid)
    with context.target_cell(admin, mapping.cell_mapping) as cell:
        instance = objects.Instance.get_by_uuid(
            cell, server.uuid, expected_attrs=["system_metadata"]
        )
        instance.system_metadata[f"image_{name}"] = value
        instance.save()


def test_the_image_of_a_server_keeps_it_where_it_is(cloud, servers):
    _set_image_property(servers["one"], "hw_tpm_version", "2.0")
    rows, _ = _explain(cloud, "--server", "one", "--migrate", "live")
    assert any("(hw_tpm_version)" in why for why in rows[HOSTS[1]]["Reason"])
    rows, _ = _explain(cloud, "--server", "one", "--migrate", "cold")
    assert rows[HOSTS[1]]["Reason"] == []


def test_resources_of_a_flavor_without_alias_count_and_are_warned_of(
    openstack, cloud, servers
):
    """Placement answers, and the guest gets no device."""
    cloud.create_flavor("claim", {"resources:CUSTOM_GPU_H100": "1"})
    (row,) = openstack("capacity", "--flavor", "claim", "--alias", ALIAS)
    assert row["Servers"] == 13
    (found,) = [
        one
        for one in openstack("flavor", "check", "claim", "--alias", ALIAS)
        if one["Severity"] == "warning"
    ]
    assert found["Key"] == "resources:CUSTOM_GPU_H100"
    _, err = _explain(cloud, "--flavor", "claim")
    assert "claim: resources:CUSTOM_GPU_H100 claims CUSTOM_GPU_H100" in err
    server = cloud.boot("claim-1", "claim")
    try:
        assert server.status == "ACTIVE"
        assert cloud.list_devices(server) == []
        (row,) = openstack("capacity", "--flavor", "claim", "--alias", ALIAS)
        assert row["Servers"] == 12
    finally:
        cloud.delete(server)


@pytest.mark.parametrize(
    "command",
    [
        "capacity",
        "explain --flavor any.1",
        "flavor check any.1",
        "capacity --flavor any.1",
    ],
)
def test_without_nova_conf_one_line_says_which_option_to_give(
    cloud, servers, command
):
    result = shell.Shell(shell.connection(cloud)).run("gpu", *command.split())
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "/etc/nova/nova.conf is not here: give --nova-conf <file> or --alias"
        " <json>\n"
    )


def test_columns_are_selected_as_cliff_has_it(openstack, servers):
    (row,) = openstack(
        *("device", "list", "--server", "one"),
        *("-c", "Server", "-c", "Traits", "-c", "Provider"),
    )
    assert set(row) == {"Server", "Traits", "Provider"}
    assert row["Server"] == "one"
    assert not [t for t in row["Traits"] if t.startswith("CUSTOM_GPU_LINK")]


@pytest.mark.parametrize(
    "arguments",
    [
        *("host list", "host show hgx-1", "device list --long"),
        *("device list --server two", "topology show hgx-1"),
        *("capacity --alias", "explain --flavor any.2 --alias"),
        *("drift --alias", "flavor check any.2 --alias"),
    ],
)
def test_two_hosts_take_few_questions(cloud, servers, arguments):
    """What a command takes is what it asks, one after the other; no timing."""
    connection = shell.connection(cloud)
    asked = []
    request = connection.session.request

    def count(url, method, *args, **kwargs):
        asked.append(url)
        return request(url, method, *args, **kwargs)

    connection.session.request = count
    arguments = arguments.split()
    if arguments[-1] == "--alias":
        arguments.append(ALIAS)
    result = shell.Shell(connection).run("gpu", *arguments)
    assert result.code == 0, result.err
    assert len(asked) <= 16, asked
