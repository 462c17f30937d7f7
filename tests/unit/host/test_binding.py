# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import outcome
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees


@pytest.fixture
def setting(build):
    """What is needed to write boot settings for a machine."""

    def make(host):
        files = tree.Tree(str(host.root))
        inventory = reader.read(files)
        context = Context(files, inventory)
        return context, fragment.choose_devices(inventory, fragment.Options())

    return make


@pytest.mark.parametrize("machine", sysfs_trees.MACHINES)
@pytest.mark.parametrize("way", ["modprobe", "udev"])
def test_what_we_write_gives_the_devices_to_vfio_pci_at_boot(
    build, setting, machine, way
):
    host = build(machine)
    if host.path("/etc/modprobe.d/vfio.conf").exists():
        host.remove("/etc/modprobe.d/vfio.conf")
    context, chosen = setting(host)
    plan = binding.plan(context, chosen)
    functions = (*plan.by_ids, *plan.by_address)
    assert functions
    assert any(
        outcome.Boot(context.tree).list_grabbers(one) for one in functions
    )
    if way == "modprobe":
        host.write(
            "/etc/modprobe.d/nova-gpu-host.conf",
            binding.write_modprobe(context, chosen),
        )
        functions = plan.by_ids
    else:
        host.write(
            "/etc/udev/rules.d/70-nova-gpu-host.rules",
            binding.write_udev(context, chosen),
        )
    after = outcome.Boot(tree.Tree(str(host.root)))
    assert [one for one in functions if after.list_grabbers(one)] == []


def test_other_functions_of_a_card_are_bound_with_it(build, setting):
    context, chosen = setting(build("rtx_with_audio_and_usb"))
    text = binding.write_modprobe(context, chosen)
    assert "ids=10de:1e07,10de:10f7,10de:1ad6,10de:1ad7" in text
    assert "softdep snd_hda_intel pre: vfio-pci" in text
    assert "softdep xhci_pci pre: vfio-pci" in text


def test_vfs_with_the_ids_of_their_pf_are_bound_by_address(build, setting):
    context, chosen = setting(build("flex_with_vfs", vfs=2))
    assert "options vfio-pci" not in binding.write_modprobe(context, chosen)
    rules = binding.write_udev(context, chosen)
    assert 'KERNEL=="0000:4d:00.1"' in rules
    assert "0000:4d:00.0" not in rules


def test_the_console_of_the_same_ids_is_not_taken(tmp_path, setting):
    host = sysfs_trees.Host(tmp_path)
    for bus, boot_vga in (("01", True), ("02", False)):
        host.add(
            sysfs_trees.Pci(
                f"0000:{bus}:00.0",
                "pci0000:00",
                "10de:11bf",
                0x030000,
                boot_vga=boot_vga,
            )
        )
    context, chosen = setting(host)
    assert "ids=" not in binding.write_modprobe(context, chosen)
    assert "ids=" not in binding.write_cmdline(context, chosen)
    assert "[pci/0000:01:00.0]" not in binding.write_udev(context, chosen)
    assert "[pci/0000:02:00.0]" in binding.write_udev(context, chosen)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (
            "hgx_h100",
            "intel_iommu=on iommu=pt vfio-pci.ids=10de:2330"
            " rd.driver.pre=vfio-pci\n",
        ),
        (
            "mi300x",
            "iommu=pt vfio-pci.ids=1002:74a1 rd.driver.pre=vfio-pci\n",
        ),
        ("flex_with_vfs", "intel_iommu=on iommu=pt\n"),
    ],
)
def test_the_kernel_command_line_is_one_line(build, setting, machine, text):
    assert binding.write_cmdline(*setting(build(machine))) == text
