# SPDX-License-Identifier: Apache-2.0

"""Can servers with a device be live-migrated?

Sources: nova/virt/libvirt/driver.py (live migration) and Nova's
admin/pci-passthrough; NVIDIA's Virtual GPU Software User Guide, "Live
Migration" (its vendor-specific VFIO keeps the state of a vGPU).
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function

_CHECK = "live-migration"


def can_migrate(function: Function) -> bool:
    """Tell whether the driver of a device keeps its state."""
    return (
        function.driver in drivers.MIGRATION_DRIVERS
        or function.vgpu_type is not None
    )


def check(context: Context, gpu: Function) -> Iterator[Finding]:
    """Note what can be done with servers that have a GPU, or a VF of it."""
    vfs = list(context.host.list_vfs(gpu))
    if any(one.mdev_types for one in (gpu, *vfs)):
        # Nova decides by the types of mediated devices.
        return
    movable = [vf for vf in vfs if can_migrate(vf)]
    shown = movable[0] if movable else gpu
    evidence = (show_driver(shown),)
    if movable:
        yield Finding(
            Severity.NOTE,
            _CHECK,
            f"{len(movable)} VFs have a driver that can migrate them"
            f' ({shown.driver}): "live_migratable": "yes" may be set for'
            " these",
            device=str(gpu.address),
            evidence=evidence,
        )
    else:
        yield Finding(
            Severity.NOTE,
            _CHECK,
            "servers with this device cannot be live-migrated, only"
            " cold-migrated, resized or evacuated: vfio-pci keeps no state",
            device=str(gpu.address),
            evidence=evidence,
        )
