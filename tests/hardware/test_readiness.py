# SPDX-License-Identifier: Apache-2.0

"""What ``check`` says of machines on which nothing was done yet."""

from tests.hardware import cures


def _bound(names):
    """Say what is wrong with GPUs that their driver has."""
    return {
        (severity, check, name)
        for name in names.split()
        for severity, check in (("error", "driver"), ("warning", "boot"))
    }


_VFIO = {("warning", "vfio", None)}
_WRONG = {
    "k2-workstation": _bound("gpu0 gpu1 gpu2 gpu3") | _VFIO,
    "hgx-8gpu": {
        *_bound(" ".join(f"gpu{one}" for one in range(8))),
        # QEMU has no NVSwitches, which eight such GPUs are sold with.
        ("warning", "board", None),
        *_VFIO,
    },
    "cascade": {
        *_bound("gpu0 gpu1 gpu2"),
        ("error", "group", "gpu0"),
        ("error", "group", "gpu1"),
        ("warning", "group", "gpu2"),
        *_VFIO,
    },
    "audio": {
        *_bound("gpu1 audio1"),
        ("warning", "reset", "gpu1"),
        *_VFIO,
    },
    "no-acs": {
        ("error", "group", "gpu0"),
        ("error", "group", "gpu1"),
        *_VFIO,
    },
    "iommu-off": {("error", "iommu", None), *_bound("gpu1"), *_VFIO},
    # The kernel's reset does not bring an MI300X back.
    "amd": {
        ("warning", "reset", "gpu0"),
        ("warning", "reset", "gpu1"),
        *_VFIO,
    },
}


def test_finds_all_that_is_wrong_and_nothing_else(facts):
    found = cures.complaints(facts.check, facts.addresses)
    assert set(found) == _WRONG[facts.machine.name]
    assert facts.check.code == (2 if {"error"} & {o[0] for o in found} else 1)


def test_leaves_the_display_of_the_console_to_the_host(facts):
    notes = cures.complaints(facts.check, facts.addresses, "note")
    # The graphics of a BMC are one of the uses of a host.
    found = {one[2] for one in notes if one[1] in ("console", "host-use")}
    assert found - {None} == {facts.machine.console} - {None}


def test_tells_that_the_iommu_is_on_and_remaps_interrupts(facts):
    found = cures.complaints(facts.check, facts.addresses, "ok")
    expected = {"iommu", "interrupt-remapping"}
    if not facts.machine.has_groups:
        expected = set()
    assert expected == {one[1] for one in found} & {
        "iommu",
        "interrupt-remapping",
    }
