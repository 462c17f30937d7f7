# SPDX-License-Identifier: Apache-2.0

"""VFs of GPUs on a real Nova and Placement: listed, drawn, counted and
explained by their type, within the GPU that they are of."""

import json
import re

import pytest

from demo import chapter_divided
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines
from tests.functional.osc import shell

HOST = "vf-1"
FIRST, SECOND = "0000:41:00.0", "0000:a1:00.0"
ALIAS = (
    '{"name": "a40-8q", "device_type": "type-VF",'
    f' "resource_class": "{chapter_divided.VF_CLASS}"}}'
)
FLAVORS = ("vf.1", "vf.2.spread", "vf.2.pack")


@pytest.fixture(scope="module")
def cloud():
    """Two A40 with four VFs each; a server has two of one of them."""
    with embedded.EmbeddedCloud(
        chapter_divided.CONF, extend_placement=True
    ) as running:
        running.add_compute(HOST, fake_machines.a40_with_vfs())
        for name in FLAVORS:
            running.create_flavor(name, chapter_divided.FLAVORS[name])
        yield running


@pytest.fixture(scope="module")
def server(cloud):
    """A server with two VFs of one GPU."""
    found = cloud.boot("desktop", "vf.2.pack")
    assert found.status == "ACTIVE", found.fault
    return found


@pytest.fixture
def openstack(cloud, server):
    """Return a function that runs a command and returns its JSON."""
    commands = shell.Shell(shell.connection(cloud))

    def run(*arguments, err=""):
        asks = arguments[0] in ("capacity", "explain", "flavor", "drift")
        options = ("--alias", ALIAS) if asks else ()
        result = commands.run("gpu", *arguments, *options, "-f", "json")
        assert result.code == 0, result.err
        assert re.fullmatch(err, result.err, re.DOTALL), result.err
        return json.loads(result.out)

    return run


def test_vfs_are_listed_at_the_gpu_that_they_are_of(cloud, openstack, server):
    rows = openstack("device", "list", "--long")
    assert [row["Address"] for row in rows] == [FIRST, SECOND]
    (held,) = {
        address[:-1] + "0"
        for address in cloud_reader.addresses(cloud.list_devices(server))
    }
    found = {row["Address"]: row for row in rows}
    assert (found[held]["Free"], found[held]["Used"]) == (2, 2)
    assert found[held]["State"] == "partly used"
    assert found[held]["Server"] == "desktop"
    (other,) = {FIRST, SECOND} - {held}
    assert (found[other]["Free"], found[other]["State"]) == (4, "free")
    assert {row["Model"] for row in rows} == {"GPU_A40_8Q"}


def test_a_host_counts_and_draws_them(cloud, openstack):
    (row,) = openstack("host", "list")
    assert (row["Total"], row["Free"], row["Used"]) == (8, 6, 2)
    assert openstack("host", "show", HOST)["servers"] == {"desktop": 2}
    drawn = shell.Shell(shell.connection(cloud)).run(
        "gpu", "topology", "show", HOST
    )
    assert "2 of 4 free" in drawn.out
    assert "4 of 4 free" in drawn.out
    assert "desktop" in drawn.out


def test_as_many_servers_start_as_capacity_says(cloud, openstack):
    rows = {row["Flavor"]: row["Servers"] for row in openstack("capacity")}
    assert rows == {"vf.1": 6, "vf.2.spread": 3, "vf.2.pack": 3}
    started = cloud.boot_many("many", "vf.2.spread", 3)
    try:
        assert {one.status for one in started} == {"ACTIVE"}
        (row,) = openstack("capacity", "--flavor", "vf.1")
        assert row["Servers"] == 0
        (row,) = openstack("explain", "--flavor", "vf.1", err=".*")
        assert (row["Host"], row["Servers"]) == (HOST, 0)
        assert row["Blocked By"]
        assert cloud.boot("late", "vf.1").status == "ERROR"
    finally:
        for one in started:
            cloud.delete(one)
    (row,) = openstack("explain", "--flavor", "vf.1", err=".*6 fit.*")
    assert (row["Servers"], row["Reason"]) == (6, [])


def test_a_flavor_of_vfs_is_checked_and_nothing_drifts(openstack):
    for name in FLAVORS:
        found = openstack("flavor", "check", name)
        assert [one for one in found if one["Severity"] != "note"] == []
    assert openstack("drift") == []
