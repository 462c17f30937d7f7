# SPDX-License-Identifier: Apache-2.0

"""A real libvirt and Nova's driver for it, on the nova.conf that we write."""

from lxml import etree
import pytest

from tests.hardware import emulated_machines
from tests.hardware import facts as facts_lib
from tests.hardware import nova_scripts

_WRITE = (
    ("--write", "/etc/nova/device_spec.conf"),
    (
        *("--role", "controller", "--alias", "rtx"),
        *("--write", "/etc/nova/alias.conf"),
    ),
)


@pytest.fixture(scope="module")
def seen(boot, parts):
    """Have Nova use a machine on which nothing was done yet.

    :returns: (name of a device -> address, what nova_compute.py tells).
    """
    nova_scripts.skip_without_libvirt(parts)
    guest = boot(emulated_machines.PASSING)
    addresses = facts_lib.addresses(guest)
    nova_scripts.write_conf(guest)
    for arguments in _WRITE:
        assert guest.host("config", *arguments).code == 0
    guest.shell("start-libvirt")
    return addresses, nova_scripts.run(
        guest, "nova_compute", "rtx", addresses["gpu0"], addresses["gpu1"]
    )


def _pools(counts):
    """Say what the scheduler must see; of each address, how many are free."""
    return [
        {
            "vendor_id": "10de",
            "product_id": "1e07",
            "numa_node": None,
            "count": count,
            "tags": {
                "dev_type": "type-PCI",
                "address": address,
                "gpu_links": "phb:0",
            },
        }
        for address, count in sorted(counts.items())
    ]


def _by_address(pools):
    return sorted(pools, key=lambda pool: pool["tags"]["address"])


def test_nova_gets_every_device_from_libvirt(seen):
    addresses, told = seen
    reported = {
        one["address"]: f"{one['vendor_id']}:{one['product_id']}"
        for one in told["reported"]
    }
    plugged = {
        addresses[one.name]: one.model.ids
        for one in emulated_machines.PASSING.devices
    }
    assert plugged.items() <= reported.items()


def test_our_config_makes_pools_that_know_their_links(seen):
    addresses, told = seen
    assert _by_address(told["pools"]) == _pools(
        {addresses["gpu0"]: 1, addresses["gpu1"]: 1}
    )


def test_the_guest_has_the_claimed_device_and_does_dma_with_it(seen):
    addresses, told = seen
    (claimed,) = told["claimed"]
    (left,) = {addresses["gpu0"], addresses["gpu1"]} - {claimed}
    assert _by_address(told["pools_left"]) == _pools({claimed: 0, left: 1})
    for xml in (told["xml"], told["live_xml"]):
        (device,) = etree.fromstring(xml).iter("hostdev")
        assert device.get("managed") == "yes"
        found = device.find("source/address")
        domain, bus, slot, function = (
            int(found.get(part), 16)
            for part in ("domain", "bus", "slot", "function")
        )
        assert f"{domain:04x}:{bus:02x}:{slot:02x}.{function}" == claimed
    at = told["console"].index("device 10de:1e07 class 0300")
    assert told["console"][at + 1 : at + 3] == ["alive", "DMA right"]


def test_libvirt_binds_the_device_for_the_guest_alone(seen):
    _, told = seen
    assert {*told["before"].values()} == {"nvidia"}
    (claimed,) = told["claimed"]
    assert told["during"] == {**told["before"], claimed: "vfio-pci"}


def test_the_device_is_given_back_after_the_guest(seen):
    _, told = seen
    assert told["after"] == told["before"]
    assert _by_address(told["pools_after"]) == _by_address(told["pools"])
    assert told["domains"] == []
