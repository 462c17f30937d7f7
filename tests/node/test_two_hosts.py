# SPDX-License-Identifier: Apache-2.0

"""Servers that go from one host to another with their GPUs."""

from tests.node import nodes
from tests.node.servers import NEWER
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


def test_a_cold_migration_is_reverted_and_confirmed(
    cloud, node, other_node, user
):
    uuid = create(user, "moves", host=node.name)
    [before] = expect_devices(cloud, node, user, uuid, 1)
    for way, at in (("revert", node), ("confirm", other_node)):
        user.openstack("server", "migrate", uuid)
        user.settle([uuid], ["VERIFY_RESIZE", "ERROR"], 300)
        assert user.servers()[uuid]["status"] == "VERIFY_RESIZE", user.fault(
            uuid
        )
        view = nodes.look(cloud, node, other_node)
        # Both hosts keep one until it is known where the server stays.
        assert {host for host, _ in view.of(uuid)} == {
            node.name,
            other_node.name,
        }
        assert [host for host, _ in view.libvirt] == [other_node.name]

        user.openstack("server", "migration", way, uuid)
        user.settle([uuid], ["ACTIVE", "ERROR"], 300)
        assert nodes.wait_until(
            lambda: (
                len(nodes.look(cloud, node, other_node).placement)
                == len(nodes.look(cloud, node, other_node).nova)
                == 1
            )
        )
        # What was left is cleaned, and offered again.
        assert nodes.wait_until(lambda: nodes.reserved(cloud) == 1), (
            node.agent_log(),
            other_node.agent_log(),
        )
        [held] = expect_devices(cloud, at, user, uuid, 1)
        assert at is other_node or held == before
        assert count_working(read_console(user, uuid)) == 1


def test_a_host_dies_and_a_server_is_evacuated_and_the_other_runs_again(
    cloud, node, other_node, user
):
    uuid = create(user, "leaves", host=node.name)
    [left] = expect_devices(cloud, node, user, uuid, 1)
    patient = create(user, "waits", host=node.name)
    [kept] = expect_devices(cloud, node, user, patient, 1)
    service = (*NEWER, "compute", "service", "set")
    of_node = (node.name, "nova-compute")
    # What a host has not written yet is lost with its power, disks of servers
    # included; Linux writes after half a minute.
    node.guest.shell("sync")
    node.lose_power()
    user.openstack(*service, "--down", *of_node)
    # Since 2.95 of the API it arrives stopped, and cannot be started while
    # Nova's database has the devices of both hosts for it, of which those on
    # the dead one have a request that the server has no more (KeyError of
    # get_pci_devices in nova/objects/instance.py).
    user.openstack(*NEWER, "server", "evacuate", uuid)
    user.settle([uuid], ["ACTIVE", "ERROR"], 300)
    assert user.servers()[uuid]["status"] == "ACTIVE", user.fault(uuid)
    [held] = [
        address
        for host, address in nodes.look(cloud, other_node).of(uuid)
        if host == other_node.name
    ]
    assert other_node.driver(held) == "vfio-pci"
    assert count_working(read_console(user, uuid)) == 1
    # The GPUs of the host that died are offered to nobody.
    assert nodes.reserved(cloud) == 3

    node.power_on()
    assert nodes.wait_until(lambda: [*node.guest.domains()] == [patient])
    assert nodes.wait_until(
        lambda: len(nodes.look(cloud, node, other_node).of(uuid)) == 1
    )
    # Nova's API refuses it before.
    user.openstack(*service, "--up", *of_node)
    assert expect_devices(cloud, other_node, user, uuid, 1) == [held]
    user.settle([patient], ["ACTIVE"], 300)
    assert expect_devices(cloud, node, user, patient, 1) == [kept]
    assert count_working(read_console(user, patient)) == 1
    assert nodes.wait_until(lambda: nodes.reserved(cloud) == 2), (
        node.agent_log()
    )
    assert {
        address: state for address, (state, _) in node.list_devices().items()
    } == {kept: "in-use", left: "free"}
