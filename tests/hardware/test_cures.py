# SPDX-License-Identifier: Apache-2.0

"""What is wrong with a machine goes away by what ``check`` says to type."""

import dataclasses

from tests.hardware import cures
from tests.hardware import machines
from tests.hardware.machines import Root


def test_k2_boards_are_ready_after_what_the_tool_says_and_stay_so(boot):
    guest = boot(machines.K2_WORKSTATION)
    cured, left = cures.follow(guest)
    assert left == set()
    assert ("warning", "boot", "gpu0") in cured
    assert {one for one in cured if one[1] == "driver"} == {
        ("error", "driver", f"gpu{number}") for number in range(4)
    }
    guest.reboot()
    assert cures.check(guest) == (0, {})
    drivers = guest.shell(
        "readlink /sys/bus/pci/drivers/vfio-pci/*:*/driver"
    ).split()
    assert len(drivers) == 4

    # A setting that the initramfs does not have yet.
    guest.shell("echo 'blacklist nouveau' > /etc/modprobe.d/late.conf")
    assert set(cures.check(guest)[1]) == {("warning", "initramfs", None)}
    assert cures.follow(guest) == ([("warning", "initramfs", None)], set())


def test_an_iommu_that_is_switched_off_is_on_after_the_cure(boot):
    guest = boot(machines.IOMMU_OFF)
    _, found = cures.check(guest)
    assert found[("error", "iommu", None)]["Cure"][0] == (
        "# take intel_iommu=off from the kernel command line"
    )
    guest.shell("sed -i 's/intel_iommu=off//' /etc/default/grub")
    cured, left = cures.follow(guest)
    assert cured[0] == ("error", "iommu", None)
    assert left == set()
    guest.reboot()
    assert cures.check(guest) == (0, {})


def test_a_gpu_that_cannot_be_reset_is_told(boot):
    # On the root bus itself, so that not even the bus can be reset.
    gpu = machines.NO_ACS.cards[0]
    guest = boot(dataclasses.replace(machines.NO_ACS, roots=(Root((gpu,)),)))
    _, left = cures.follow(guest)
    assert left == {("warning", "reset", "gpu0")}
