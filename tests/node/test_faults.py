# SPDX-License-Identifier: Apache-2.0

"""The host loses a service or a device while it has GPU servers."""

from tests.node import nodes
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


def test_libvirtd_dies_and_guests_keep_their_gpus(cloud, node, user):
    first = create(user, "before")["id"]
    held = expect_devices(cloud, node, user, first, 1)
    node.restart_libvirt()
    assert expect_devices(cloud, node, user, first, 1) == held
    second = create(user, "after")["id"]
    [other] = expect_devices(cloud, node, user, second, 1)
    assert [other] != held
    assert count_working(read_console(user, second)) == 1


def test_a_free_gpu_leaves_the_bus_and_comes_back(cloud, node, user):
    uuid = create(user, "stays")["id"]
    held = expect_devices(cloud, node, user, uuid, 1)
    [gone] = {*node.lspci()} - {*held}
    node.guest.shell(f"echo 1 > /sys/bus/pci/devices/{gone}/remove")
    assert nodes.wait_until(
        lambda: node.list_devices()[gone][0] == "quarantined"
    ), node.agent_log()
    assert "not on the bus" in node.list_devices()[gone][1]
    # Nova lists its devices when nova-compute starts, and never again; what
    # is reserved is offered to nobody.
    assert nodes.look(cloud, node).pools == 1
    refused = create(user, "refused", wait=False)["id"]
    [server] = user.settle([refused])
    assert server["status"] == "ERROR"
    assert "No valid host" in user.fault(refused)
    assert user.delete([refused]) == []

    node.guest.shell("echo 1 > /sys/bus/pci/rescan")
    assert gone in node.lspci()
    # Only people give back what was away.
    assert nodes.reserved(cloud) == 2
    assert node.list_devices()[gone][0] == "quarantined"
    node.ask_agent("release", gone, "--reason", "it sits in its slot again")
    assert nodes.wait_until(lambda: nodes.reserved(cloud) == 1), (
        node.agent_log()
    )
    again = create(user, "again")["id"]
    assert expect_devices(cloud, node, user, again, 1) == [gone]
    assert count_working(read_console(user, again)) == 1


def test_nova_compute_dies_while_it_starts_a_server(cloud, node, user):
    uuid = create(user, "interrupted", wait=False)["id"]
    assert nodes.wait_until(
        lambda: uuid in nodes.look(cloud, node).nova.values()
    )
    node.kill()
    node.start()
    user.settle([uuid], patience_seconds=300)
    assert user.servers()[uuid]["status"] in ("ACTIVE", "ERROR")
    assert user.delete([uuid]) == []
    assert nodes.wait_until(lambda: not nodes.reserved(cloud))
    later = create(user, "later", "k2.2")["id"]
    expect_devices(cloud, node, user, later, 2)
    assert count_working(read_console(user, later)) == 2
