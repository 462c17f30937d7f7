# SPDX-License-Identifier: Apache-2.0

"""From ``openstack server create`` to the devices that the guest lists."""

import json

from cloud import domain_xml
from tests.cloud import operators
from tests.node import nodes
from tests.node import offers
from tests.node.servers import IDS
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


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
    first = user.openstack(
        *("server", "create", "--flavor", "k2.1", "--image", offers.IMAGE),
        *("--nic", "none", "--wait", "-f", "json", "one"),
    )["id"]
    [given] = expect_devices(cloud, node, user, first, 1)
    assert count_working(read_console(user, first)) == 1
    shown = user.openstack("console", "log", "show", first)
    assert count_working(shown.split("\n")) == 1
    xml = node.guest.shell(f"virsh dumpxml {first}")
    assert domain_xml.hostdevs(xml) == [given]
    [free] = {*node.lspci()} - {given}
    # As "check" has found it, and not with another driver since.
    assert node.driver(free) == "vfio-pci"
    second = user.openstack(
        *("server", "create", "--flavor", "k2.1", "--image", offers.IMAGE),
        *("--nic", "none", "--wait", "-f", "json", "two"),
    )["id"]
    [other] = expect_devices(cloud, node, user, second, 1)
    assert other == free

    third = create(user, "three", wait=False)
    [server] = user.settle([third])
    assert server["status"] == "ERROR"
    assert "No valid host" in user.fault(third)
    explained = user.try_openstack(
        *("gpu", "explain", "--flavor", "k2.1"),
        *("--nova-conf", str(cloud.files.path("nova/nova.conf"))),
    )
    assert explained.returncode == 0, explained.stderr
    assert "fits on none of 1 host" in explained.stderr
    assert "one" in explained.stdout
    assert "two" in explained.stdout

    assert user.delete([first, third]) == []
    # What a server had is offered again when it is clean.
    assert nodes.wait_until(lambda: nodes.reserved(cloud) == 1)
    fourth = create(user, "four")
    assert expect_devices(cloud, node, user, fourth, 1) == [given]
    assert count_working(read_console(user, fourth)) == 1


def test_what_operators_see_is_what_the_host_has(cloud, node, user):
    uuid = create(user, "seen")
    [given] = expect_devices(cloud, node, user, uuid, 1)
    nova_conf = cloud.files.path("nova/nova.conf")
    aliases = ("--nova-conf", str(nova_conf), "-f", "json")

    [host] = user.openstack("gpu", "host", "list", "-f", "json")
    assert (host["Host"], host["Total"], host["Used"]) == (node.name, 2, 1)
    devices = user.openstack("gpu", "device", "list", "--long", "-f", "json")
    assert {
        (one["Address"], one["Server"]) for one in devices if one["Server"]
    } == {(given, "seen")}
    assert {one["Address"] for one in devices} == {*node.lspci()}
    # Of hosts that this cloud does not have.
    assert [
        (one["Kind"], one["Subject"])
        for one in user.openstack("gpu", "drift", *aliases)
    ] == [("alias without device", "h100")]

    values = operators.scrape(cloud)
    counted = values("nova_gpu_devices", "host", "state")
    assert {key: number for key, number in counted.items() if number} == {
        (node.name, "used"): 1,
        (node.name, "free"): 1,
    }
    assert set(values("nova_gpu_up", "service").values()) == {1}

    code, found, text = operators.check_upgrade(nova_conf)
    assert {name for name, result in found.items() if result != "Success"} == {
        "Names in Placement"
    }, text
    assert "[pci]alias h100" in text
    assert code == 1

    checked = node.guest.host(
        "check", "--nova-conf", "/etc/nova", "-f", "json"
    )
    # No tool of a vendor clears the memory of emulated devices.
    assert checked.code == 1, checked
    [warning] = [
        one for one in json.loads(checked.out) if one["Severity"] != "note"
    ]
    assert (warning["Severity"], warning["Check"]) == ("warning", "agent")
    assert "memory" in warning["Finding"]
