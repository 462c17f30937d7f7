# SPDX-License-Identifier: Apache-2.0

"""Cures of IOMMU, health, BARs, fabric and vGPU, typed on a host's files.

The text of a cure is what an operator types.
"""

import shutil

import pytest

from tests import sysfs_trees
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB
from tests.sysfs_trees import Pci
from tests.unit.host.machine import DEVICES
from tests.unit.host.machine import LOADERS
from tests.unit.host.machine import Machine

FIRST, SECOND = "0000:85:00.0", "0000:86:00.0"
GROUPS = "/sys/kernel/iommu_groups"


@pytest.fixture
def gpus(tmp_path):
    """Two GPUs that are ready."""
    host = sysfs_trees.Host(tmp_path / "host")
    host.nodes(1)
    host.iommu()
    for number, address in enumerate((FIRST, SECOND)):
        host.add(
            Pci(
                address,
                "pci0000:80",
                "10de:11bf",
                0x030000,
                group=41 + number,
                driver="vfio-pci",
                bars=(16 * MIB, 256 * MIB),
            )
        )
    host.vfio_at_boot("10de:11bf")
    return host


@pytest.fixture
def without_iommu(gpus, tmp_path):
    """Take the IOMMU groups away; they come back when the kernel uses it."""
    groups, kept = gpus.path(GROUPS), tmp_path / "kept"
    shutil.copytree(groups, kept, symlinks=True)
    shutil.rmtree(groups)
    groups.mkdir()

    def boot(arguments):
        on = [one for one in arguments if one.startswith("intel_iommu=")]
        off = {"iommu=off", "iommu=soft"} & set(arguments)
        if on[-1:] == ["intel_iommu=on"] and not off:
            shutil.rmtree(groups)
            shutil.copytree(kept, groups, symlinks=True)

    return boot


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "the kernel does not use it"),
        ("intel_iommu=off", "is switched off on the kernel command line"),
        ("quiet iommu=off splash", "is switched off on the kernel command"),
        ("iommu=soft intel_iommu=on", "is switched off on the kernel command"),
        ("iommu=off intel_iommu=off", "is switched off on the kernel command"),
    ],
)
def test_the_iommu_is_on_after_its_cures(
    gpus, without_iommu, loader, arguments, words
):
    machine = Machine(gpus, loader, arguments)
    machine.at_boot = without_iommu
    assert machine.cure(words) == []
    cmdline = gpus.path("/proc/cmdline").read_text().split()
    assert {"quiet", "splash"} & set(arguments.split()) <= set(cmdline)


def test_the_firmware_has_to_announce_the_iommu_first(gpus, without_iommu):
    gpus.remove("/sys/firmware/acpi/tables/DMAR")
    machine = Machine(gpus)
    machine.at_boot = without_iommu
    (found,) = machine.check()
    # What only the operator can do comes first.
    assert found.cures[0].startswith("# switch on VT-d")
    gpus.write("/sys/firmware/acpi/tables/DMAR", b"DMAR")
    for command in found.cures:
        machine.type(command)
    assert machine.check() == []


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("intremap=off", "interrupts are not remapped"),
        ("nointremap", "interrupts are not remapped"),
        ("intremap=nosid", "who makes an interrupt is not checked"),
        ("pcie_acs_override=downstream,multifunction", "pcie_acs_override"),
        ("pcie_acs_override=id:8086:2030", "pcie_acs_override"),
    ],
)
def test_arguments_that_harm_are_gone_after_their_cures(
    gpus, loader, arguments, words
):
    line = "           CPU0\n 24:   11  {}PCI-MSI-0000:00:1c.0  0-edge  PME\n"
    remapped = f"intel_iommu=on {arguments}"
    machine = Machine(gpus, loader, remapped)

    def boot(given):
        is_off = {"intremap=off", "nointremap"} & set(given)
        gpus.write("/proc/interrupts", line.format("" if is_off else "IR-"))

    machine.at_boot = boot
    boot(remapped.split())
    assert machine.cure(words) == []
    assert "intel_iommu=on" in gpus.path("/proc/cmdline").read_text()


# Health


def test_a_device_that_does_not_answer_is_back_after_a_rescan(gpus):
    place = gpus.path(f"{DEVICES}/{FIRST}").resolve()
    config = (
        (place / "config").read_bytes()
        if (place / "config").exists()
        else None
    )
    gpus.write(f"{DEVICES}/{FIRST}/config", b"\xff" * 64)
    gpus.write(f"{DEVICES}/{FIRST}/current_link_width", 63)
    machine = Machine(gpus, arguments="intel_iommu=on iommu=pt")

    def rescan():
        if config is None:
            (place / "config").unlink()
        gpus.write(f"{place.relative_to(gpus.root)}/current_link_width", 16)
        gpus.link(f"{DEVICES}/{FIRST}", f"/{place.relative_to(gpus.root)}")

    machine.at_rescan = rescan
    assert machine.cure("does not answer") == []


def test_a_device_without_power_is_kept_awake(gpus):
    gpus.write(f"{DEVICES}/{FIRST}/power_state", "D3cold")
    gpus.write(f"{DEVICES}/{FIRST}/power/control", "auto")
    gpus.write(f"{DEVICES}/{FIRST}/power/runtime_status", "active")
    machine = Machine(gpus, arguments="intel_iommu=on iommu=pt")
    (found,) = machine.check()
    for command in found.cures:
        machine.type(command)
    assert gpus.path(f"{DEVICES}/{FIRST}/power/control").read_text() == "on\n"
    # Its ids are still those of the GPUs: another file has one more option.
    gpus.write(f"{DEVICES}/{FIRST}/power_state", "D0")
    assert machine.check() == []


def test_bars_have_addresses_after_a_boot_with_realloc(gpus):
    path = f"{DEVICES}/{FIRST}/resource"
    good = gpus.path(path).read_text()
    lines = good.splitlines()
    lines[1] = "0x0000000000000000 0x000000000fffffff 0x000000002014220c"
    gpus.write(path, "\n".join(lines))
    machine = Machine(gpus, arguments="intel_iommu=on iommu=pt")

    def boot(arguments):
        if "pci=realloc" in arguments:
            gpus.write(path, good)

    machine.at_boot = boot
    assert machine.cure("no address") == []


# Fabric


@pytest.mark.parametrize("machine_name", ["hgx_h100", "hgx_b200"])
@pytest.mark.parametrize("mode", ["0", "2", "9"])
def test_fabric_manager_has_its_mode_after_the_cures(
    build, machine_name, mode
):
    host = build(machine_name)
    host.write(
        "/usr/share/nvidia/nvswitch/fabricmanager.cfg",
        f"LOG_LEVEL=4\nFABRIC_MODE={mode}\n",
    )
    machine = Machine(host, arguments="intel_iommu=on iommu=pt")
    assert machine.cure("FABRIC_MODE=") == []


def test_lost_nvswitches_have_their_driver_after_the_cures(build):
    host = build("hgx_h100")
    for bus in ("c3", "c6"):
        host.path(f"{DEVICES}/0000:{bus}:00.0/driver").unlink()
    machine = Machine(host, arguments="intel_iommu=on iommu=pt")
    assert machine.cure("2 of 4 are not") == []


@pytest.mark.parametrize("driver", ["vfio-pci", None])
def test_cards_that_manage_nvswitches_are_the_hosts_after_the_cures(
    build, driver
):
    host = build("hgx_b200")
    link = f"{DEVICES}/0000:a1:00.0/driver"
    host.path(link).unlink()
    if driver:
        host.link(link, f"/sys/bus/pci/drivers/{driver}")
    machine = Machine(host, arguments="intel_iommu=on iommu=pt")
    assert machine.cure("1 of 2 is not") == []


# vGPU


@pytest.fixture
def vgpus(tmp_path):
    """Two VFs, of which one has no vGPU type."""
    host = sysfs_trees.Host(tmp_path / "vgpus")
    host.nodes(1)
    host.iommu()
    host.add(
        Pci(
            "0001:c8:00.0",
            "pci0001:c7",
            "10de:2bb5",
            0x030200,
            group=61,
            driver="nvidia",
            bars=(64 * MIB, 128 * GIB),
            totalvfs=2,
            vf_ids="10de:2bb5",
        )
    )
    for number, vgpu_type in ((1, 1519), (2, 0)):
        address = f"0001:c8:00.{number}"
        host.add(
            Pci(
                address,
                "pci0001:c7",
                "10de:2bb5",
                0x030200,
                group=61 + number,
                driver="nvidia",
                bars=(16 * MIB,),
                physfn="0001:c8:00.0",
            )
        )
        host.write(f"{DEVICES}/{address}/nvidia/current_vgpu_type", vgpu_type)
    return Machine(host, arguments="intel_iommu=on iommu=pt")


def conf(*addresses, managed="no"):
    return "[pci]\n" + "".join(
        f'device_spec = {{"address": "{one}", "managed": "{managed}"}}\n'
        for one in addresses
    )


def test_a_vf_without_type_has_one_after_its_cure(vgpus, monkeypatch):
    text = conf("0001:c8:00.1", "0001:c8:00.2")
    # TYPE stands for what the list of types says.
    real = vgpus.type
    monkeypatch.setattr(
        vgpus, "type", lambda command: real(command.replace("TYPE", "1519"))
    )
    assert vgpus.cure("without a vGPU type", text) == []


def test_a_managed_vgpu_is_an_error_until_the_tag_says_no(vgpus):
    managed = vgpus.check(conf("0001:c8:00.1", managed="yes"))
    assert any('"managed": "no"' in one.summary for one in managed)
    assert vgpus.check(conf("0001:c8:00.1")) == []
