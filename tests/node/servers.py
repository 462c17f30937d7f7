# SPDX-License-Identifier: Apache-2.0

"""Makes servers as a user does, and looks at their devices everywhere."""

from tests.node import nodes
from tests.node import offers

IDS = "10de:11bf"
"""The GRID K2, as ``lspci -nn`` prints it."""
_K2 = f"{IDS} class 0300"
NEWER = ("--os-compute-api-version", "2.90")
"""A version that has hosts that are forced down."""


def create(user, name, flavor="k2.1", host=None, wait=True):
    """Create a server, and give its UUID.

    By the API, as the command takes seconds more and ``--wait`` looks every
    five: stories that are about commands have them.

    :param wait: until it has got what it asks for, or cannot.
    """
    uuid = user.ask(name, flavor, host, image=offers.IMAGE)
    assert uuid is not None
    if wait:
        user.settle([uuid], patience_seconds=300)
    return uuid


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
    assert [node.driver(one) for one in addresses] == ["vfio-pci"] * count
    return addresses


def read_console(user, uuid):
    """Read the guest's console when the guest has said all.

    By the API, as servers are created.
    """
    said: list[str] = []

    def has_ended() -> bool:
        said[:] = user.read_console(uuid).split("\n")
        return "end" in said

    assert nodes.wait_until(has_ended), said
    return said


def count_working(said, model=_K2):
    """Count the devices that the guest found and did DMA with."""
    places = [
        place for place, line in enumerate(said) if line == f"device {model}"
    ]
    for place in places:
        assert said[place + 1 : place + 3] == ["alive", "DMA right"], said
    return len(places)
