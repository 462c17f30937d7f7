# SPDX-License-Identifier: Apache-2.0

"""Fabric partitions are respected from the choice to the guest."""

import collections
import json

import pytest

from cloud import bootstrap
from cloud import control
from tests.cloud import views

PARTITIONS = {
    frozenset(partition["devices"])
    for partition in json.loads(control.HGX_H100.read_text())[
        "fabric_partitions"
    ]
}


@pytest.fixture
def fabric(user):
    """Names of flavors that want a whole partition, by number of GPUs."""
    return {
        gpus: user.flavor(
            f"gpu.h100.{gpus}.fabric",
            {"pci_passthrough:alias": f"h100:{gpus}", "gpu:link": "fabric"},
        )
        for gpus in (1, 2, 4)
    }


def gpus_of(view, uuid):
    """Return (host, addresses) of what a guest has been given."""
    held = view.of(uuid, "libvirt")
    [host] = {host for host, _ in held}
    return host, frozenset(address for _, address in held)


def test_servers_asked_for_at_once_get_whole_partitions_of_a_full_host(
    cloud, user, fabric, note
):
    other = user.boot("other", bootstrap.flavor(8), host="hgx-2")
    assert other["status"] == "ACTIVE"
    # Two at once that want one GPU may take it from two pairs, and two pairs
    # are left then; with more of them a pair could be refused rightly.
    flavors = [fabric[gpus] for gpus in (2, 1, 1, 2)]

    uuids = user.boot_at_once(flavors)

    servers = user.settle(uuids)
    counted = collections.Counter(server["status"] for server in servers)
    assert counted == {"ACTIVE": len(flavors)}
    for number in range(2):
        last = user.boot(f"last-{number}", fabric[1])
        assert last["status"] == "ACTIVE"
        uuids.append(last["id"])
    view = views.look(cloud)
    assert all(gpus_of(view, uuid)[1] in PARTITIONS for uuid in uuids)
    assert view.disagreements() == []
    assert len(view.libvirt) == 16
    note(f"{len(uuids)} servers fill a host in whole partitions")


def test_free_gpus_of_two_partitions_are_refused_where_one_is_required(
    cloud, user, fabric
):
    other = user.boot("other", bootstrap.flavor(8), host="hgx-2")
    pairs = [
        user.boot(f"pair-{number}", fabric[2], host="hgx-1")
        for number in range(4)
    ]
    assert [s["status"] for s in (other, *pairs)] == ["ACTIVE"] * 5
    view = views.look(cloud)
    sets = {server["id"]: gpus_of(view, server["id"])[1] for server in pairs}
    quads = [devices for devices in PARTITIONS if len(devices) == 4]
    # One pair of each quad goes: four GPUs are free, and no whole quad.
    leaving = [
        next(uuid for uuid, devices in sets.items() if devices < quad)
        for quad in quads
    ]
    assert user.delete(leaving) == []

    refused = user.boot("refused", fabric[4])
    assert refused["status"] == "ERROR"
    assert "No valid host" in user.fault(refused["id"])
    log = cloud.processes.log("nova-scheduler").read_text()
    said = [
        line
        for line in log.splitlines()
        if refused["id"] in line and "GpuPciPassthroughFilter: 0 of" in line
    ]
    assert len(said) == 1, "one line of the scheduler's log says why"

    accepted = user.boot("accepted", bootstrap.flavor(4))
    assert accepted["status"] == "ACTIVE"
    view = views.look(cloud)
    assert view.disagreements() == []
    assert len(view.libvirt) == 16
