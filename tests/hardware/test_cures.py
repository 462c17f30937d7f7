# SPDX-License-Identifier: Apache-2.0

"""What is wrong with a machine goes away by what ``check`` says to type."""

import dataclasses

import pytest

from tests.hardware import cures
from tests.hardware import emulated_machines
from tests.hardware.emulated_machines import Ports
from tests.hardware.emulated_machines import Root


def of(machine):
    """Have a test use one of the machines."""
    return pytest.mark.parametrize(
        "machine", [machine], ids=[machine.name], indirect=True
    )


@of(emulated_machines.K2_WORKSTATION)
def test_k2_boards_are_ready_after_what_the_tool_says_and_stay_so(machine):
    cured, left = cures.follow(machine)
    assert left == set()
    assert ("warning", "boot", "gpu0") in cured
    assert {one for one in cured if one[1] == "driver"} == {
        ("error", "driver", f"gpu{number}") for number in range(4)
    }
    # A setting that the initramfs does not have yet; its cure is a reboot.
    machine.shell("echo 'blacklist nouveau' > /etc/modprobe.d/late.conf")
    assert cures.follow(machine) == ([("warning", "initramfs", None)], set())
    drivers = machine.shell(
        "readlink /sys/bus/pci/drivers/vfio-pci/*:*/driver"
    ).split()
    assert len(drivers) == 4


@of(emulated_machines.AUDIO)
def test_a_card_beside_the_console_of_its_kind_is_ready_by_its_address(
    machine,
):
    cured, left = cures.follow(machine)
    assert left == set()
    assert ("error", "driver", "audio1") in cured
    machine.reboot()
    assert cures.check(machine) == (0, {})


@of(emulated_machines.NO_ACS)
def test_a_group_without_acs_can_be_given_away_only_as_a_whole(machine):
    cured, left = cures.follow(machine)
    assert ("error", "group", "gpu0") in cured
    assert left == {
        ("warning", "group", "gpu0"),
        ("warning", "group", "gpu1"),
    }
    # What the cure leaves to hands: a slot with a root port of its own.
    machine.off()
    cards = tuple(Ports((card,)) for card in emulated_machines.NO_ACS.cards)
    machine.machine = dataclasses.replace(
        emulated_machines.NO_ACS, roots=(Root(cards),)
    )
    machine.boot()
    _, left = cures.follow(machine)
    assert left == set()


@of(emulated_machines.IOMMU_OFF)
def test_an_iommu_that_is_switched_off_is_on_after_the_cure(machine):
    cured, left = cures.follow(machine)
    assert cured[0] == ("error", "iommu", None)
    assert left == set()
    assert "intel_iommu=off" not in machine.shell("cat /proc/cmdline")


def test_a_firmware_without_iommu_is_told_from_a_virtual_machine(boot):
    real = dataclasses.replace(
        emulated_machines.IOMMU_OFF,
        iommu=None,
        cmdline="intremap=off",
        roots=(Root((Ports((emulated_machines.IOMMU_OFF.cards[0],)),)),),
    )
    guest = boot(dataclasses.replace(real, is_virtual=True))
    (summary,) = [
        one["Finding"]
        for one in cures.check(guest)[1].values()
        if one["Check"] == "iommu"
    ]
    assert summary == "this is a virtual machine without an IOMMU"
    guest.off()
    guest.machine = real
    guest.boot()
    found = cures.check(guest)[1][("error", "iommu", None)]
    assert found["Cure"][0].startswith("# switch on VT-d in the firmware's")
    # The commands, and on the way up the firmware's setup.
    *commands, reboot = cures.commands([found["Cure"]])
    assert reboot == "reboot"
    cures.type_in(guest, commands)
    guest.off()
    guest.machine = dataclasses.replace(real, iommu="intel")
    guest.boot()

    # The IOMMU is on; interrupts are not remapped, by the command line.
    complaint = "interrupt-remapping"
    assert ("error", complaint, None) in cures.check(guest)[1]
    # The operator lives with it until the machine can be restarted.
    guest.shell(
        "modprobe vfio_iommu_type1 && echo Y >"
        " /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    )
    found = set(cures.check(guest)[1])
    assert ("warning", complaint, None) in found
    assert ("error", complaint, None) not in found
    cured, left = cures.follow(guest)
    assert left == set()
    assert complaint in {check for _, check, _ in cured}
    assert "intremap=off" not in guest.shell("cat /proc/cmdline")


def test_a_gpu_that_cannot_be_reset_is_told(boot):
    # On the root bus itself, so that not even the bus can be reset.
    gpu = emulated_machines.NO_ACS.cards[0]
    guest = boot(
        dataclasses.replace(emulated_machines.NO_ACS, roots=(Root((gpu,)),))
    )
    _, left = cures.follow(guest)
    assert left == {("warning", "reset", "gpu0")}
