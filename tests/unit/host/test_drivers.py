# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import sysfs_trees


def context_of(host):
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    return Context(files, inventory)


def problems(host, check):
    """Findings of a check that ask for action."""
    return [
        finding
        for finding in readiness.check(context_of(host))
        if finding.check == check
        and finding.severity in (Severity.ERROR, Severity.WARNING)
    ]


# pci_driver.name in the kernel, and what modules are called.
@pytest.mark.parametrize(
    "name",
    [
        "vfio-pci",
        "vfio_pci",
        "nvgrace-gpu-vfio-pci",
        "nvgrace_gpu_vfio_pci",
        "mlx5_vfio_pci",
        "mlx5-vfio-pci",
        "hisi_acc_vfio_pci",
        "hisi-acc-vfio-pci",
        "pds_vfio_pci",
        "qat_vfio_pci",
        "virtio_vfio_pci",
        "xe-vfio-pci",
        "xe_vfio_pci",
    ],
)
def test_a_vfio_driver_is_known_in_both_spellings(name):
    assert name in drivers.VFIO_DRIVERS
    assert name not in drivers.DISPLAY


@pytest.mark.parametrize(
    "name", ["nvidia", "nouveau", "xe", "amdgpu", "pci-stub", "", None]
)
def test_other_drivers_are_no_vfio_drivers(name):
    assert name not in drivers.VFIO_DRIVERS


@pytest.mark.parametrize(
    ("name", "migrates"),
    [
        ("vfio-pci", False),
        ("nvgrace_gpu_vfio_pci", False),
        ("mlx5-vfio-pci", True),
        ("xe_vfio_pci", True),
    ],
)
def test_some_vfio_drivers_can_migrate(name, migrates):
    assert (name in drivers.MIGRATION_DRIVERS) is migrates


@pytest.mark.parametrize(
    "driver", ["nvgrace_gpu_vfio_pci", "nvgrace-gpu-vfio-pci"]
)
def test_grace_gpus_are_ready_with_the_driver_for_them(tmp_path, driver):
    host = sysfs_trees.gb200_tray(tmp_path, driver)
    for gpu in context_of(host).host.gpus:
        host.write(f"/etc/driverctl.d/pci-{gpu.address}", driver)
    assert not problems(host, "driver")
    assert not problems(host, "boot")


@pytest.mark.parametrize(
    ("driver", "severity"),
    [
        ("vfio-pci", Severity.ERROR),
        ("nvidia", Severity.ERROR),
        ("nouveau", Severity.ERROR),
    ],
)
def test_grace_gpus_are_bound_to_the_driver_for_them(
    tmp_path, driver, severity
):
    found = problems(sysfs_trees.gb200_tray(tmp_path, driver), "driver")
    assert [finding.severity for finding in found] == [severity] * 4
    assert found[0].cures[0] == "modprobe nvgrace_gpu_vfio_pci"
    path = "/sys/bus/pci/devices/0008:01:00.0"
    assert (
        f"echo nvgrace_gpu_vfio_pci > {path}/driver_override" in found[0].cures
    )


def test_what_binds_grace_gpus_at_boot_names_their_driver(tmp_path):
    context = context_of(sysfs_trees.gb200_tray(tmp_path))
    chosen = context.host.gpus
    assert "vfio-pci.ids" not in binding.write_cmdline(context, chosen)
    modprobe = binding.write_modprobe(context, chosen)
    assert "options vfio-pci" not in modprobe
    assert "softdep nvidia pre: nvgrace_gpu_vfio_pci" in modprobe
    rules = binding.write_udev(context, chosen)
    assert rules.count('="nvgrace_gpu_vfio_pci"') == 4


def test_a_driver_override_is_spelt_as_the_driver_is(build):
    host = build("hgx_h100")
    device = "/sys/bus/pci/devices/0000:0f:00.0"
    host.remove(f"{device}/driver")
    host.write(f"{device}/driver_override", "vfio_pci")
    (finding,) = problems(host, "driver")
    assert "driver_override is vfio_pci" in finding.summary
    assert f"echo vfio-pci > {device}/driver_override" in finding.cures


def test_a_driver_override_of_an_unbound_device_is_fine(build):
    host = build("hgx_h100")
    device = "/sys/bus/pci/devices/0000:0f:00.0"
    host.remove(f"{device}/driver")
    host.write(f"{device}/driver_override", "vfio-pci")
    assert not problems(host, "driver")


def test_a_gpu_whose_driver_makes_no_vfs_is_told_so(build):
    host = build("mi300x")
    address = "0000:05:00.0"
    link = f"/sys/bus/pci/devices/{address}/driver"
    host.remove(link)
    host.link(link, "/sys/bus/pci/drivers/gim")
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    context = Context(files, inventory)
    found = [
        one
        for one in readiness.check(context)
        if one.device == address and one.check in ("driver", "reset")
    ]
    # That whole GPUs do not come back from a reset is no matter here.
    assert [one.check for one in found] == ["driver"]
    assert "which makes VFs of it" in found[0].summary
