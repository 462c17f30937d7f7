# SPDX-License-Identifier: Apache-2.0

"""Servers that are deleted, shelved, evacuated or out of reach, on a real Nova
and Placement: who has the devices is true all the same."""

import json
import time

import pytest

from tests.functional.osc import shell
from tests.functional.osc import two_hgx

# isort: split

from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures

HOSTS, ALIAS = two_hgx.HOSTS, two_hgx.ALIAS


@pytest.fixture(scope="module")
def cloud():
    """Two HGX H100 without servers."""
    with two_hgx.run((1, 2, 8)) as running:
        yield running


@pytest.fixture
def openstack(cloud):
    """Return a function that runs a command and returns its JSON."""
    commands = shell.Shell(shell.connection(cloud))

    def run(*arguments):
        options = ("--alias", ALIAS) if arguments[0] in _ALIASED else ()
        result = commands.run("gpu", *arguments, *options, "-f", "json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    return run


_ALIASED = ("capacity", "drift", "explain", "flavor")


@pytest.fixture
def fails(cloud):
    """Return a function that runs a command and returns why it fails."""
    commands = shell.Shell(shell.connection(cloud))

    def run(*arguments):
        options = ("--alias", ALIAS) if arguments[0] in _ALIASED else ()
        result = commands.run("gpu", *arguments, *options)
        assert (result.code, result.out) == (1, "")
        return result.err

    return run


def _explained(openstack, host, *arguments):
    rows = openstack("explain", *arguments)
    (row,) = [row for row in rows if row["Host"] == host]
    return row


@pytest.fixture
def soft_deleted(cloud):
    """Return a server that can still be restored."""
    cloud.services.flags(reclaim_instance_interval=3600)
    server = cloud.boot("soft", "any.2", host=HOSTS[0])
    cloud.services.api.delete_server(server.uuid)
    cloud.wait_for_status(server.uuid, "SOFT_DELETED")
    yield server
    cloud.services.flags(reclaim_instance_interval=0)
    cloud.services.api.post_server_action(server.uuid, {"forceDelete": {}})
    cloud.wait_until(
        lambda: not cloud.allocations(server), "the server to be gone"
    )


def test_a_server_that_is_deleted_softly_has_its_devices(
    openstack, soft_deleted
):
    label = "soft (soft-deleted)"
    for name in ("soft", soft_deleted.uuid):
        listed = openstack("device", "list", "--server", name)
        assert [row["Server"] for row in listed] == [label] * 2
    assert openstack("host", "show", HOSTS[0])["servers"] == {label: 2}
    assert openstack("drift") == []
    row = _explained(openstack, HOSTS[0], "--flavor", "any.8")
    assert row["Blocked By"] == [f"{label}: 2 devices"]
    assert row["Would Fit"][0] == (
        "with soft purged (openstack server delete --force)"
    )


def test_a_server_that_is_shelved_has_no_device(cloud, openstack):
    server = cloud.boot("shelf", "any.2", host=HOSTS[0])
    api = cloud.services.api
    api.post_server_action(server.uuid, {"shelve": None})
    cloud.wait_for_status(server.uuid, "SHELVED_OFFLOADED")
    try:
        assert openstack("device", "list", "--server", "shelf") == []
        assert openstack("host", "show", HOSTS[0])["servers"] == {}
        assert openstack("drift") == []
        rows = openstack("explain", "--server", "shelf")
        assert [row["Servers"] for row in rows] == [4, 4]
    finally:
        cloud.delete(server)


def test_a_server_on_two_ends_of_one_host_is_shown_with_both(cloud, openstack):
    """A resize on the host where it is."""
    cloud.services.flags(allow_resize_to_same_host=True)
    server = cloud.boot("grow", "any.1", host=HOSTS[0])
    [other] = [
        found["id"]
        for found in cloud.services.api.api_get("/os-services").body[
            "services"
        ]
        if found["host"] == HOSTS[1] and found["binary"] == "nova-compute"
    ]
    path = f"/os-services/{other}"
    cloud.services.api.api_put(path, {"status": "disabled"})
    try:
        server = cloud.resize(server, "any.2")
        assert server.host == HOSTS[0]
        assert openstack("host", "show", HOSTS[0])["servers"] == {
            "grow (resize, source)": 1,
            "grow (resize, target)": 2,
        }
        assert len(openstack("device", "list", "--server", "grow")) == 3
        assert openstack("drift") == []
        row = _explained(openstack, HOSTS[0], "--flavor", "any.8")
        assert row["Would Fit"][-1] == (
            "with the resize of grow confirmed and without grow (resize,"
            " target)"
        )
    finally:
        cloud.services.api.api_put(path, {"status": "enabled"})
        cloud.delete(server)


def test_a_quarantined_device_that_is_used_takes_two_changes(cloud, openstack):
    server = cloud.boot("ill", "any.1", host=HOSTS[0])
    [device] = cloud.list_devices(server)
    name = f"{HOSTS[0]}_{device.address}"
    commands = shell.Shell(shell.connection(cloud))
    assert commands.run("gpu", "device", "quarantine", name).code == 0
    try:
        row = _explained(openstack, HOSTS[0], "--flavor", "any.8")
        assert row["Blocked By"] == ["ill: 1 device", "quarantined: 1 device"]
        assert (
            "with 1 quarantined device released (openstack gpu device"
            " release) and without ill"
        ) in row["Would Fit"]
        cloud.delete(server)
        assert commands.run("gpu", "device", "release", name).code == 0
        row = _explained(openstack, HOSTS[0], "--flavor", "any.8")
        assert row["Servers"] == 1
    finally:
        commands.run("gpu", "device", "release", name)


def test_an_availability_zone_that_is_not_there_is_one_line(cloud, fails):
    line = fails("explain", "--flavor", "any.1", "--availability-zone", "az")
    assert line == "no availability zone 'az'; known: nova\n"


def test_a_flavor_named_twice_is_counted_once(openstack):
    rows = openstack("capacity", "--flavor", "any.2", "--flavor", "any.2")
    assert [row["Servers"] for row in rows] == [8]


@pytest.fixture
def lost(cloud):
    """Return a server in a cell that is down."""
    server = cloud.boot("lost", "any.2", host=HOSTS[0])
    context = nova_context.get_admin_context()
    cells = [
        cell
        for cell in objects.CellMappingList.get_all(context)
        if not cell.is_cell0()
    ]
    with nova_fixtures.DownCellFixture(cells):
        yield server
    cloud.delete(server)


def test_of_a_cell_that_is_down_nothing_is_free_and_nothing_is_drift(
    openstack, fails, lost
):
    """Its servers and hosts are there, though Nova cannot say more."""
    rows = openstack("host", "list")
    assert {(row["Status"], row["Free"]) for row in rows} == {("cell down", 0)}
    assert [row["Used"] for row in rows] == [2, 0]
    owners = [row["Server"] for row in openstack("device", "list", "--long")]
    assert [owner for owner in owners if owner] == [lost.uuid] * 2
    assert openstack("drift") == []
    rows = openstack("explain", "--flavor", "any.1")
    assert {tuple(row["Reason"]) for row in rows} == {
        ("Nova does not reach the cell of its nova-compute",)
    }
    assert [row["Servers"] for row in openstack("capacity")] == [0, 0, 0]
    assert fails("explain", "--server", lost.uuid).startswith(
        f"Nova does not reach the cell of server '{lost.uuid}'"
    )


def test_an_evacuation_has_a_source_until_its_host_is_back(cloud, openstack):
    server = cloud.boot("evac", "any.2", host=HOSTS[0])
    api = cloud.services.api
    [uuid] = [
        found["id"]
        for found in api.api_get("/os-services").body["services"]
        if found["host"] == HOSTS[0] and found["binary"] == "nova-compute"
    ]
    api.api_put(f"/os-services/{uuid}", {"forced_down": True})
    api.post_server_action(server.uuid, {"evacuate": {}})
    cloud.wait_until(
        lambda: cloud.show(server).host == HOSTS[1], "the evacuation"
    )
    cloud.wait_for_status(server.uuid, "ACTIVE", "SHUTOFF")
    try:
        ends = {
            (row["Host"], row["Server"])
            for row in openstack("device", "list", "--server", "evac")
        }
        assert ends == {
            (HOSTS[0], "evac (evacuation, source)"),
            (HOSTS[1], "evac (evacuation, target)"),
        }
        assert openstack("drift") == []
        assert openstack("host", "list")[0]["Free"] == 0
    finally:
        cloud.restart_compute(HOSTS[0])
        time.sleep(1)
        api.api_put(f"/os-services/{uuid}", {"forced_down": False})
    cloud.wait_until(
        lambda: len(openstack("device", "list", "--server", "evac")) == 2,
        "what was left to be removed",
    )
    assert openstack("host", "show", HOSTS[1])["servers"] == {"evac": 2}
    cloud.delete(cloud.show(server))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("host list --model h100", "known: GPU_H100 (CUSTOM_GPU_H100)"),
        ("device list --model *", "known: GPU_H100 (CUSTOM_GPU_H100)"),
        ("host show hgx-3", "did you mean hgx-2 or hgx-1?"),
        ("topology show HGX-1", "did you mean hgx-1 or hgx-2?"),
        ("device show hgx-1", "did you mean hgx-1_0000:"),
        ("explain --flavor ANY.8", "did you mean any.8"),
        ("flavor check any", "did you mean any.8"),
        ("explain --server 3a9bd7b1-3a3c-4d0a-8a43-0f5ca1cbd2b6", "no server"),
    ],
)
def test_what_is_not_there_ends_with_what_is(fails, arguments, line):
    assert line in fails(*arguments.split())


@pytest.mark.parametrize(
    "name", ["学习 'quote\" x", "a b  c", "ü%_*[", "0000:1b:00.0", "<b>&amp;"]
)
def test_a_server_may_have_any_name_that_nova_takes(cloud, openstack, name):
    server = cloud.boot(name, "any.1", host=HOSTS[0])
    try:
        (row,) = openstack("device", "list", "--server", name)
        assert row["Server"] == name
        assert openstack("host", "show", HOSTS[0])["servers"] == {name: 1}
        row = _explained(openstack, HOSTS[0], "--flavor", "any.8")
        assert row["Blocked By"] == [f"{name}: 1 device"]
    finally:
        cloud.delete(server)
