# SPDX-License-Identifier: Apache-2.0

import uuid

from nova.tests.fixtures import libvirt as fakelibvirt
import pytest

from cloud import guests
from nova_gpu_filter.host import inventory

_HOSTDEV = """
<hostdev mode='subsystem' type='pci' managed='yes'><source>
<address domain='0x0000' bus='{}' slot='0x00' function='0x0'/>
</source></hostdev>"""


@pytest.fixture
def connection(tmp_path):
    return guests.Connection(inventory.Inventory("h", ()), "h", tmp_path)


def define(connection, name, *buses):
    """Define a guest with the first function of each bus."""
    return connection.defineXML(
        f"<domain type='kvm'><name>{name}</name>"
        f"<uuid>{uuid.uuid5(uuid.NAMESPACE_DNS, name)}</uuid>"
        "<memory>1</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>"
        + "".join(_HOSTDEV.format(bus) for bus in buses)
        + "</devices></domain>"
    )


@pytest.mark.parametrize(
    ("one", "other"), [(["0x41"], ["0x41"]), (["0x0f"], ["0x41", "0x41"])]
)
def test_a_device_in_use_is_refused(connection, one, other):
    define(connection, "one", *one).create()
    refused = define(connection, "other", *other)
    with pytest.raises(
        fakelibvirt.libvirtError,
        match=r"PCI device 0000:41:00.0 is in use by driver QEMU, domain o",
    ):
        refused.create()
    assert not refused.isActive()
    assert [d.name() for d in connection.listAllDomains(1)] == ["one"]


def test_a_device_can_be_had_after_its_guest_was_destroyed(connection):
    first = define(connection, "first", "0x41")
    first.create()
    second = define(connection, "second", "0x41")
    first.destroy()
    second.create()
    assert second.isActive()


def test_guests_outlive_the_process(connection, tmp_path):
    define(connection, "kept", "0x41").create()
    define(connection, "stopped", "0x41")
    again = guests.Connection(inventory.Inventory("h", ()), "h", tmp_path)
    kept, stopped = sorted(again.listAllDomains(1 | 2), key=lambda d: d.name())
    assert (kept.name(), kept.isActive()) == ("kept", 1)
    assert (stopped.name(), stopped.isActive()) == ("stopped", 0)
    with pytest.raises(fakelibvirt.libvirtError, match="in use"):
        stopped.create()
