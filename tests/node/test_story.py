# SPDX-License-Identifier: Apache-2.0

"""From ``openstack server create`` to the devices that the guest lists."""

import pytest

from cloud import domain_xml
from tests.cloud import waiting
from tests.node import nodes

IDS = "10de:11bf"


@pytest.fixture(autouse=True)
def _leave_nothing(cloud, node, user):
    """Delete the servers of a test, and see that their devices are free."""
    yield
    assert user.delete(user.servers()) == []

    def is_free() -> bool:
        view = nodes.look(cloud, node)
        held = {**view.nova, **view.placement, **view.libvirt}
        return not held and view.pools == 2

    assert waiting.until(is_free), nodes.look(cloud, node)


def create(user, name, flavor="k2.1", wait=True):
    """Create a server as a user does."""
    return user.openstack(
        *("server", "create", "--flavor", flavor, "--nic", "none"),
        *("--image", nodes.IMAGE, *(("--wait",) if wait else ())),
        *("-f", "json", name),
    )


def expect_devices(cloud, node, user, uuid, count):
    """Check what a running server has, wherever it can be read.

    :returns: the addresses of its devices.
    """
    assert user.servers()[uuid]["status"] == "ACTIVE"
    view = nodes.look(cloud, node)
    held = view.of(uuid)
    assert len(held) == count
    assert held == view.of(uuid, "placement") == view.of(uuid, "libvirt")
    addresses = [address for _, address in held]
    assert domain_xml.hostdevs(node.domains()[uuid]) == addresses
    assert [node.driver(one) for one in addresses] == ["vfio-pci"] * count
    return addresses


def console(user, uuid):
    """Read the guest's console when the guest has said all."""
    said: list[str] = []

    def has_ended() -> bool:
        shown = user.try_openstack("console", "log", "show", uuid).stdout
        said[:] = shown.split("\n")
        return "end" in said

    assert waiting.until(has_ended, 300), said
    return said


def count_working(said):
    """Count the devices that the guest found and did DMA with."""
    places = [
        place
        for place, line in enumerate(said)
        if line == f"device {IDS} class 0300"
    ]
    for place in places:
        assert said[place + 1 : place + 3] == ["alive", "DMA right"], said
    return len(places)


def test_the_devices_of_the_host_are_in_placement(cloud, node, user):
    seen = node.lspci()
    assert all(IDS in line for line in seen.values())
    providers = {
        one["name"]
        for one in user.openstack("resource", "provider", "list", "-f", "json")
    }
    assert providers == {
        node.name,
        *(f"{node.name}_{address.upper()}" for address in seen),
    }


def test_a_server_has_a_gpu_and_the_third_is_refused(cloud, node, user):
    first = create(user, "one")["id"]
    [given] = expect_devices(cloud, node, user, first, 1)
    assert count_working(console(user, first)) == 1
    second = create(user, "two")["id"]
    [other] = expect_devices(cloud, node, user, second, 1)
    assert {given, other} == set(node.lspci())

    third = create(user, "three", wait=False)["id"]
    [server] = user.settle([third])
    assert server["status"] == "ERROR"
    assert "No valid host" in user.fault(third)
    explained = user.try_openstack(
        *("gpu", "explain", "--flavor", "k2.1"),
        *("--nova-conf", str(cloud.files.path("nova/nova.conf"))),
    )
    assert explained.returncode == 1, explained.stderr
    assert "one" in explained.stdout
    assert "two" in explained.stdout

    assert user.delete([first, third]) == []
    fourth = create(user, "four")["id"]
    assert expect_devices(cloud, node, user, fourth, 1) == [given]
    assert count_working(console(user, fourth)) == 1


def test_two_gpus_of_one_switch_outlive_reboots(cloud, node, user):
    uuid = create(user, "pair", "k2.2")["id"]
    held = expect_devices(cloud, node, user, uuid, 2)
    assert count_working(console(user, uuid)) == 2

    user.openstack("server", "reboot", "--hard", "--wait", uuid)
    user.settle([uuid])
    assert expect_devices(cloud, node, user, uuid, 2) == held
    user.openstack("server", "stop", uuid)
    user.settle([uuid], ["SHUTOFF"])
    assert nodes.look(cloud, node).of(uuid) == [
        (node.name, address) for address in held
    ]
    assert node.domains() == {}
    user.openstack("server", "start", uuid)
    user.settle([uuid], ["ACTIVE"])
    assert expect_devices(cloud, node, user, uuid, 2) == held
    assert count_working(console(user, uuid)) == 2
