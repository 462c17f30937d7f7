# SPDX-License-Identifier: Apache-2.0

"""What drivers mean for pass-through, and how a device gets another one."""

from nova_gpu_filter.host import reader
from nova_gpu_filter.host.address import PciAddress

# Drivers that let their device be given to a guest: vfio-pci and those that
# add migration to it (drivers/vfio/pci in the kernel).
VFIO_DRIVERS = frozenset(
    {
        "vfio-pci",
        "hisi-acc-vfio-pci",
        "mlx5_vfio_pci",
        "mlx5-vfio-pci",
        "nvgrace-gpu-vfio-pci",
        "pds-vfio-pci",
        "qat_vfio_pci",
        "virtio-vfio-pci",
        "virtiovf_vfio_pci",
        "xe-vfio-pci",
    }
)
# Those of them that can migrate their device.
MIGRATION_DRIVERS = VFIO_DRIVERS - {"vfio-pci", "nvgrace-gpu-vfio-pci"}

# Drivers that may stay on other members of a group: they do no DMA for
# themselves (driver_managed_dma in the kernel).
HARMLESS = frozenset({"pci-stub", "pcieport", "shpchp"})

DISPLAY = frozenset(
    {"nvidia", "nouveau", "nvidiafb", "amdgpu", "radeon", "i915", "xe"}
)


def bind_to_vfio(address: PciAddress, driver: str | None) -> tuple[str, ...]:
    """Say how to bind a device to vfio-pci now."""
    path = f"{reader.DEVICES}/{address}"
    commands = ["modprobe vfio-pci"]
    if driver == "nvidia":
        commands.append("systemctl stop nvidia-persistenced")
    commands.append(f"echo vfio-pci > {path}/driver_override")
    if driver is not None:
        commands.append(f"echo {address} > {path}/driver/unbind")
    commands.append(f"echo {address} > /sys/bus/pci/drivers_probe")
    return tuple(commands)
