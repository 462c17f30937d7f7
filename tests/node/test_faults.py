# SPDX-License-Identifier: Apache-2.0

"""The host loses a service or a device while it has GPU servers."""

from tests.hardware import cures
from tests.node import nodes
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


def test_libvirtd_dies_and_guests_keep_their_gpus(cloud, node, user):
    first = create(user, "before")
    held = expect_devices(cloud, node, user, first, 1)
    node.restart_libvirt()
    assert expect_devices(cloud, node, user, first, 1) == held
    second = create(user, "after")
    [other] = expect_devices(cloud, node, user, second, 1)
    assert [other] != held
    assert count_working(read_console(user, second)) == 1


def _expect_quarantine(cloud, node, gone):
    assert nodes.wait_until(
        lambda: node.list_devices()[gone][0] == "quarantined"
    ), node.agent_log()
    assert "not on the bus" in node.list_devices()[gone][1]
    assert gone not in node.lspci()


def _plug_in(cloud, node, gone, name):
    """Put a GPU back, and do what an operator has to do then."""
    node.guest.plug(name)
    assert nodes.wait_until(lambda: gone in node.lspci())
    # Only people give back what was away.
    assert node.list_devices()[gone][0] == "quarantined"
    # The driver that takes a new device is not that of guests.
    cured, left = cures.follow(node.guest)
    assert cured
    assert left == set()
    node.ask_agent("release", gone, "--reason", "it sits in its slot again")
    assert nodes.wait_until(lambda: node.list_devices()[gone][0] == "free"), (
        node.agent_log()
    )


def test_a_free_gpu_leaves_the_bus_and_comes_back(cloud, node, user):
    uuid = create(user, "stays")
    held = expect_devices(cloud, node, user, uuid, 1)
    [gone] = {*node.lspci()} - {*held}
    name = node.names()[gone]
    node.guest.pull(name)
    _expect_quarantine(cloud, node, gone)
    # Nova lists its devices when nova-compute starts, and never again; what
    # is reserved is offered to nobody.
    assert nodes.look(cloud, node).pools == 1
    refused = create(user, "refused")
    assert user.servers()[refused]["status"] == "ERROR"
    assert "No valid host" in user.fault(refused)
    assert user.delete([refused]) == []

    _plug_in(cloud, node, gone, name)
    again = create(user, "again")
    assert expect_devices(cloud, node, user, again, 1) == [gone]
    assert count_working(read_console(user, again)) == 1


def test_a_gpu_that_is_pulled_leaves_when_its_server_does(cloud, node, user):
    uuid = create(user, "goes on")
    [held] = expect_devices(cloud, node, user, uuid, 1)
    name = node.names()[held]
    # Linux takes it from the driver, which asks QEMU for it, which asks a
    # guest that does not listen.
    node.guest.pull(name)
    assert nodes.wait_until(lambda: node.driver(held) == "")
    assert nodes.look(cloud, node).libvirt == {(node.name, held): uuid}
    assert user.servers()[uuid]["status"] == "ACTIVE"
    assert node.list_devices()[held][0] == "in-use"
    assert user.delete([uuid]) == []
    _expect_quarantine(cloud, node, held)
    other = create(user, "other")
    assert expect_devices(cloud, node, user, other, 1) != [held]
    assert user.delete([other]) == []

    _plug_in(cloud, node, held, name)
    pair = create(user, "pair", flavor="k2.2")
    assert held in expect_devices(cloud, node, user, pair, 2)
    assert count_working(read_console(user, pair)) == 2


def _is_claimed(cloud, node, user, uuid):
    return uuid in nodes.look(cloud, node).nova.values()


def _is_spawning(cloud, node, user, uuid):
    return user.servers()[uuid]["OS-EXT-STS:task_state"] == "spawning"


def _has_a_guest(cloud, node, user, uuid):
    return uuid in node.guest.domains()


def _is_free(cloud, node):
    view = nodes.look(cloud, node)
    held = {**view.nova, **view.placement, **view.libvirt}
    return not held and not nodes.reserved(cloud)


def test_nova_compute_dies_in_each_phase_of_the_start_of_a_server(
    cloud, node, user
):
    for phase in (_is_claimed, _is_spawning, _has_a_guest):
        uuid = create(user, phase.__name__, wait=False)
        assert nodes.wait_until(
            lambda phase=phase, uuid=uuid: phase(cloud, node, user, uuid)
        ), phase
        node.kill()
        node.start()
        user.settle([uuid], patience_seconds=300)
        assert user.servers()[uuid]["status"] in ("ACTIVE", "ERROR"), phase
        assert user.delete([uuid]) == []
        assert nodes.wait_until(lambda: _is_free(cloud, node)), phase
    later = create(user, "later", flavor="k2.2")
    expect_devices(cloud, node, user, later, 2)
    assert count_working(read_console(user, later)) == 2
