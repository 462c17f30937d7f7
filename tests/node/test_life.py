# SPDX-License-Identifier: Apache-2.0

"""What a server does in its life, and what becomes of its devices."""

from tests.node import nodes
from tests.node import offers
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


def test_two_gpus_of_one_switch_outlive_reboots_and_a_live_migration(
    cloud, node, user
):
    uuid = create(user, "pair", flavor="k2.2")
    held = expect_devices(cloud, node, user, uuid, 2)
    assert count_working(read_console(user, uuid)) == 2

    user.openstack("server", "reboot", "--hard", "--wait", uuid)
    user.settle([uuid])
    assert expect_devices(cloud, node, user, uuid, 2) == held
    user.openstack("server", "stop", uuid)
    user.settle([uuid], ["SHUTOFF"])
    assert nodes.look(cloud, node).of(uuid) == [
        (node.name, address) for address in held
    ]
    assert node.guest.domains() == {}
    user.openstack("server", "start", uuid)
    user.settle([uuid], ["ACTIVE"])
    assert expect_devices(cloud, node, user, uuid, 2) == held
    assert count_working(read_console(user, uuid)) == 2
    user.openstack("server", "reboot", "--soft", "--wait", uuid)
    user.settle([uuid])
    assert expect_devices(cloud, node, user, uuid, 2) == held
    user.openstack(
        "server", "rebuild", "--image", offers.IMAGE, "--wait", uuid
    )
    assert expect_devices(cloud, node, user, uuid, 2) == held
    assert count_working(read_console(user, uuid)) == 2

    refused = user.try_openstack("server", "migrate", "--live-migration", uuid)
    user.settle([uuid])
    # Nova says so at once, or with the state of the migration.
    migrations = user.openstack(
        *("server", "migration", "list", "--server", uuid, "-f", "json")
    )
    assert refused.returncode or migrations[0]["Status"] == "error"
    assert expect_devices(cloud, node, user, uuid, 2) == held


def test_a_resize_holds_both_gpus_until_it_is_confirmed_or_reverted(
    cloud, node, user
):
    uuid = create(user, "grows")
    [before] = expect_devices(cloud, node, user, uuid, 1)
    [other] = {*node.lspci()} - {before}
    for way, left in (("revert", before), ("confirm", other)):
        user.openstack("server", "resize", "--flavor", "k2.1.other", uuid)
        user.settle([uuid], ["VERIFY_RESIZE", "ERROR"], 300)
        assert user.servers()[uuid]["status"] == "VERIFY_RESIZE"
        view = nodes.look(cloud, node)
        assert view.libvirt == {(node.name, other): uuid}
        assert {address for _, address in view.of(uuid)} == {before, other}
        assert len(view.placement) == 2

        user.openstack("server", "resize", way, uuid)
        user.settle([uuid], ["ACTIVE", "ERROR"], 300)
        # nova-compute frees the other one after the server is ACTIVE.
        assert nodes.wait_until(
            lambda: len(nodes.look(cloud, node).placement) == 1
        )
        assert nodes.wait_until(lambda: len(nodes.look(cloud, node).nova) == 1)
        # That which was left is cleaned; a server's own is reserved.
        assert nodes.wait_until(lambda: nodes.reserved(cloud) == 1), (
            node.agent_log()
        )
        assert expect_devices(cloud, node, user, uuid, 1) == [left]
        assert count_working(read_console(user, uuid)) == 1


def test_a_shelved_server_frees_its_gpu_and_gets_one_again(cloud, node, user):
    uuid = create(user, "rests")
    expect_devices(cloud, node, user, uuid, 1)
    user.openstack("server", "shelve", uuid)
    user.settle([uuid], ["SHELVED_OFFLOADED", "ERROR"], 300)
    assert user.servers()[uuid]["status"] == "SHELVED_OFFLOADED"
    assert nodes.wait_until(lambda: not nodes.look(cloud, node).nova)
    view = nodes.look(cloud, node)
    assert (view.placement, view.libvirt) == ({}, {})

    user.openstack("server", "unshelve", uuid)
    user.settle([uuid], ["ACTIVE", "ERROR"], 300)
    expect_devices(cloud, node, user, uuid, 1)
    assert count_working(read_console(user, uuid)) == 1


def test_a_server_that_is_deleted_while_it_is_built_holds_nothing(
    cloud, node, user
):
    uuid = create(user, "briefly", wait=False)
    assert nodes.wait_until(
        lambda: uuid in nodes.look(cloud, node).nova.values()
    )
    # Then the fixture looks whether everything is free.
    assert user.delete([uuid]) == []
