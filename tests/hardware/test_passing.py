# SPDX-License-Identifier: Apache-2.0

"""A device is bound to vfio-pci, given to a guest, and taken back."""

import pytest

from tests.hardware import cures
from tests.hardware import emulated_machines
from tests.hardware import facts as facts_lib

# The guest's whole operating system is payload.c. It does not run before the
# monitor says so: until then we look at a machine whose device is given away.
_GUEST = (
    "qemu-system-x86_64 -accel tcg -machine q35 -m 32M -nodefaults"
    " -no-user-config -display none -serial file:/tmp/said"
    " -kernel /extras/boot/payload -device isa-debug-exit,iobase=0xf4"
    " -S -monitor tcp:127.0.0.1:4444,server=on,wait=off"
    " -device vfio-pci,host={address} >/tmp/qemu 2>&1"
)
# How many processes have the group open.
_HOLDERS = "find /proc/[0-9]*/fd -lname /dev/vfio/{group} 2>/dev/null | wc -l"


@pytest.fixture(scope="module")
def host(boot):
    """A machine on which nothing was done yet."""
    return boot(emulated_machines.PASSING)


@pytest.fixture(scope="module")
def addresses(host):
    """Where its devices are."""
    return facts_lib.addresses(host)


def _drivers(host, addresses):
    """Do what the operator does: readlink .../driver."""
    found = {}
    for name in ("gpu0", "gpu1"):
        path = f"/sys/bus/pci/devices/{addresses[name]}/driver"
        link = host.shell(f"readlink {path} || true").strip()
        found[name] = link.rpartition("/")[2]
    return found


def test_the_text_of_udev_binds_one_of_two_cards_alike(host, addresses):
    assert _drivers(host, addresses) == {"gpu0": "nvidia", "gpu1": "nvidia"}
    text = host.host("config", "--udev", "--device", addresses["gpu0"]).out
    assert addresses["gpu0"] in text
    assert addresses["gpu1"] not in text
    (host.state / "etc" / "udev" / "rules.d" / "70-gpu.rules").write_text(text)
    # The ids of both are the same, so modprobe cannot tell them apart.
    text = host.host("config", "--modprobe", "--device", addresses["gpu0"]).out
    assert "ids=" not in text
    (host.state / "etc" / "modprobe.d" / "gpu.conf").write_text(text)
    host.shell(
        "update-initramfs -u -k all;"
        " echo vfio-pci > /etc/modules-load.d/vfio-pci.conf"
    )
    host.reboot()
    assert _drivers(host, addresses) == {"gpu0": "vfio-pci", "gpu1": "nvidia"}
    assert cures.check(host, "--device", addresses["gpu0"]) == (0, {})


def test_a_guest_does_dma_with_the_device_and_gives_it_back(host, addresses):
    before = _drivers(host, addresses)
    group = host.shell(
        "basename $(readlink"
        f" /sys/bus/pci/devices/{addresses['gpu0']}/iommu_group)"
    ).strip()
    guest = _GUEST.format(address=addresses["gpu0"])
    holders = _HOLDERS.format(group=group)
    assert host.shell(holders).strip() == "0"
    host.shell(f"({guest}; echo $? >/tmp/ended) >/dev/null 2>&1 &")
    host.shell(
        f"until [ $({holders}) -gt 0 ] || [ -e /tmp/ended ]; do sleep 1; done"
    )
    assert host.shell(holders).strip() == "1", host.shell("cat /tmp/qemu")
    assert _drivers(host, addresses) == before

    host.shell("exec 3<>/dev/tcp/127.0.0.1/4444; echo cont >&3; cat <&3")
    host.shell("until [ -e /tmp/ended ]; do sleep 1; done")
    said = host.shell("cat /tmp/said").splitlines()
    assert said[-1:] == ["end"], (said, host.shell("cat /tmp/qemu"))
    at = said.index("device 10de:1e07 class 0300")
    assert said[at + 1 : at + 3] == ["alive", "DMA right"]
    # isa-debug-exit doubles what it is told and adds one.
    assert host.shell("cat /tmp/ended").strip() == "1"
    assert host.shell(holders).strip() == "0"
    assert _drivers(host, addresses) == before


def test_a_device_that_came_back_goes_to_its_own_driver(host, addresses):
    path = f"/sys/bus/pci/devices/{addresses['gpu0']}"
    host.shell(
        f"echo nvidia > {path}/driver_override;"
        f" echo {addresses['gpu0']} > {path}/driver/unbind;"
        f" echo {addresses['gpu0']} > /sys/bus/pci/drivers_probe"
    )
    assert _drivers(host, addresses) == {"gpu0": "nvidia", "gpu1": "nvidia"}
