# SPDX-License-Identifier: Apache-2.0

"""What drivers mean for pass-through, and how a device gets another one."""

from collections.abc import Collection
import dataclasses

from nova_gpu_filter.host.address import PciAddress

VFIO = "vfio-pci"


class Names(frozenset[str]):
    """Names of drivers, in which ``-`` and ``_`` are the same.

    A driver's name is what its author wrote, or its module's
    (KBUILD_MODNAME), in which the build makes ``_`` of every ``-``
    (scripts/Makefile.lib): which of the two it is differs from one kernel to
    another.
    """

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(
            name.replace("-", "_") == one.replace("-", "_") for one in self
        )


@dataclasses.dataclass(frozen=True, slots=True)
class VfioDriver:
    """A driver that lets its device be given to a guest."""

    name: str
    """As it is registered, and as ``driver_override`` has to spell it."""
    source: str
    """In the kernel, below drivers/vfio/pci."""
    can_migrate: bool = False
    kernel_option: str = ""
    """With which a kernel has it."""
    required_for: frozenset[str] = frozenset()
    """Ids of devices that a guest can use only with this driver; others of
    its devices work with vfio-pci, too, and then cannot migrate."""


_VFIO_TABLE = (
    VfioDriver(VFIO, "vfio_pci.c"),
    VfioDriver(
        "hisi_acc_vfio_pci", "hisilicon/hisi_acc_vfio_pci.c", can_migrate=True
    ),
    VfioDriver("ism_vfio_pci", "ism/main.c (s390, 7.0)"),
    VfioDriver("mlx5_vfio_pci", "mlx5/main.c", can_migrate=True),
    VfioDriver(
        "nvgrace_gpu_vfio_pci",
        "nvgrace-gpu/main.c: GH200 120GB, 480GB and 144GB, GB200, GB300. The"
        " guest's driver needs the GPU's memory as the BARs that this driver"
        " makes of it",
        kernel_option="CONFIG_NVGRACE_GPU_VFIO_PCI",
        required_for=frozenset(
            ("10de:2342", "10de:2345", "10de:2348", "10de:2941", "10de:31c2")
        ),
    ),
    VfioDriver("pds_vfio_pci", "pds/pci_drv.c", can_migrate=True),
    VfioDriver("qat_vfio_pci", "qat/main.c", can_migrate=True),
    VfioDriver("virtio_vfio_pci", "virtio/main.c", can_migrate=True),
    VfioDriver(
        "virtiovf_vfio_pci", "virtio, before it was merged", can_migrate=True
    ),
    VfioDriver("xe-vfio-pci", "xe/main.c", can_migrate=True),
)

VFIO_DRIVERS = Names(one.name for one in _VFIO_TABLE)
MIGRATION_DRIVERS = Names(one.name for one in _VFIO_TABLE if one.can_migrate)

# Drivers that may stay on other members of a group: they do no DMA for
# themselves (driver_managed_dma in the kernel: drivers/pci/pci-stub.c,
# drivers/pci/pcie/portdrv.c, drivers/pci/hotplug/shpchp_core.c).
HARMLESS = Names({"pci-stub", "pcieport", "shpchp"})

DISPLAY = Names(
    {
        *("nvidia", "nouveau", "nvidiafb", "amdgpu", "radeon", "i915", "xe"),
        # linux drivers/gpu/nova-core/driver.rs
        *("nova_core", "NovaCore"),
    }
)

DRM = frozenset({"amdgpu", "i915", "nouveau", "radeon", "xe"})
"""Modules that register nothing with nomodeset (drivers/gpu/drm/*_drv.c,
drm_firmware_drivers_only in drivers/video/nomodeset.c)."""
_MODESET = frozenset({"i915", "nouveau", "radeon"})
"""Those that register nothing with modeset=0."""

VF_MAKERS = Names({"gim"})
"""Drivers that a host has only to make VFs for guests
(amd/MxGPU-Virtualization: GIM, for AMD Instinct)."""

NVSWITCH = "nvidia-nvswitch"
"""What NVIDIA's module ``nvidia`` registers for NVSwitches
(NVSWITCH_DRIVER_NAME in open-gpu-kernel-modules,
src/common/nvswitch/interface/export_nvswitch.h)."""
# Captures of our own have shown the module's name in its place.
NVSWITCH_DRIVERS = Names({NVSWITCH, "nvidia"})

_REQUIRED_BY_IDS = {
    ids: one.name for one in _VFIO_TABLE for ids in one.required_for
}


def find_vfio_driver(ids: str) -> str:
    """Name the VFIO driver that a device needs.

    :param ids: vendor and product id, ``10de:2941``.
    """
    return _REQUIRED_BY_IDS.get(ids, VFIO)


def find_vfio_kernel_option(name: str) -> str:
    """Name the option of the kernel that a VFIO driver comes with."""
    return next(one.kernel_option for one in _VFIO_TABLE if one.name == name)


def is_misspelt(name: str) -> bool:
    """Tell whether ``driver_override`` names a VFIO driver that is not there.

    The kernel compares it with the name of a driver letter by letter
    (drivers/pci/pci-driver.c), so ``vfio_pci`` keeps every driver away.
    """
    return name in Names({VFIO}) and name != VFIO


def is_switched_off(
    module: str,
    cmdline: Collection[tuple[str, str | None]],
    options: Collection[str],
) -> bool:
    """Tell whether a module of displays is told to take no device.

    :param cmdline: (parameter, value) of the kernel command line.
    :param options: what modprobe gives the module.
    """
    if module in DRM and any(key == "nomodeset" for key, _ in cmdline):
        return True
    return module in _MODESET and (
        (f"{module}.modeset", "0") in cmdline or "modeset=0" in options
    )


def bind_to_vfio(
    address: PciAddress, driver: str | None, ids: str = ""
) -> tuple[str, ...]:
    """Say how to bind a device to its VFIO driver now.

    :param driver: what it is bound to.
    :param ids: vendor and product id, by which some need another driver than
        vfio-pci.
    """
    wanted = find_vfio_driver(ids)
    path = address.path
    commands = [f"modprobe {wanted}"]
    if driver == "nvidia":
        commands.append("systemctl stop nvidia-persistenced")
    commands.append(f"echo {wanted} > {path}/driver_override")
    if driver is not None:
        commands.append(f"echo {address} > {path}/driver/unbind")
    commands.append(f"echo {address} > /sys/bus/pci/drivers_probe")
    return tuple(commands)
