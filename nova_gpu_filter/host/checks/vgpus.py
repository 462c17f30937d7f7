# SPDX-License-Identifier: Apache-2.0

"""GPUs that several guests share: VFs, mediated devices, live migration.

Sources: the kernel's Documentation/PCI/pci-iov-howto.rst and
Documentation/driver-api/vfio-mediated-device.rst; Nova's admin/virtual-gpu
(``[devices]enabled_mdev_types``, which has nothing to do with
``[pci]device_spec``), admin/pci-passthrough and nova/virt/libvirt/driver.py
(live migration); NVIDIA's Virtual GPU Software User Guide, "Live Migration"
(its vendor-specific VFIO keeps the state of a vGPU).
"""

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import iommu_group
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.vgpu import state as vgpu_state

_MEDIATED = "/sys/bus/mdev/devices"
_DRIVER = Reporter("driver")
_SR_IOV = Reporter("sr-iov")
_LIVE_MIGRATION = Reporter("live-migration")


def check_sriov(context: Context, gpu: Function) -> Findings:
    """Check a GPU that can have VFs, and the VFs."""
    if not gpu.is_pf:
        return
    evidence = (
        context.show_file(gpu, "sriov_totalvfs"),
        context.show_file(gpu, "sriov_numvfs"),
    )
    if not gpu.sriov_numvfs:
        if context.has_aliases:
            # They are compared with the type of the device.
            return
        yield _SR_IOV.note(
            "the GPU can have VFs, so Nova calls it type-PF: its alias needs"
            ' "device_type": "type-PF"',
            *evidence,
            device=gpu.address,
        )
        return
    remove = (
        f"{vgpu_state.SRIOV_MANAGE} -d {gpu.address}"
        if gpu.driver == "nvidia"
        else f"echo 0 > {gpu.address.path}/sriov_numvfs"
    )
    vfs = list(context.host.list_vfs(gpu))
    has_mediated = any(vf.mdev_types for vf in vfs)
    yield _SR_IOV.note(
        f"{gpu.sriov_numvfs} VFs are on and carry mediated devices, whose"
        " types Nova offers by [devices]enabled_mdev_types: neither they nor"
        " the GPU are for passthrough"
        if has_mediated
        else f"{gpu.sriov_numvfs} VFs are on: offer these (type-VF) and not"
        " the GPU itself, of which Nova can track only the one or the other",
        *evidence,
        device=gpu.address,
        cures=(f"{remove}  # to pass the whole GPU through",),
    )
    if has_mediated:
        return
    host_bound = [
        vf
        for vf in vfs
        if vf.driver is not None
        and vf.driver not in drivers.VFIO_DRIVERS
        and vf.driver != "nvidia"
    ]
    if host_bound:
        first = host_bound[0]
        yield _SR_IOV.warning(
            f"{len(host_bound)} of {gpu.sriov_numvfs} VFs are bound to"
            f" {first.driver}",
            show_driver(first),
            device=gpu.address,
            cures=drivers.bind_to_vfio(first.address, first.driver, first.ids),
        )
    for vf in vfs:
        yield from iommu_group.check(context, vf)


def check_mediated(context: Context, gpu: Function) -> Findings:
    """Check a GPU that has types of mediated devices, and no VFs."""
    if not gpu.mdev_types or gpu.sriov_numvfs:
        return
    made = [uuid for one in gpu.mdev_types for uuid in one.made]
    is_wanted = bool(made) or gpu.address in context.mediated
    yield _DRIVER.report(
        Severity.NOTE if is_wanted else Severity.WARNING,
        f"the GPU is bound to {gpu.driver}, which makes mediated devices"
        " (vGPUs) of it: Nova offers their types by"
        " [devices]enabled_mdev_types, and the GPU as a whole only when it is"
        f" bound to {drivers.find_vfio_driver(gpu.ids)}",
        show_driver(gpu),
        context.read_listing(f"{gpu.address.path}/mdev_supported_types"),
        *(Evidence(_MEDIATED, one) for one in made[:1]),
        device=gpu.address,
        # What guests use or nova.conf offers is not taken away.
        cures=()
        if is_wanted
        else drivers.bind_to_vfio(gpu.address, gpu.driver, gpu.ids),
    )


def can_migrate(function: Function) -> bool:
    """Tell whether the driver of a device keeps its state."""
    return (
        function.driver in drivers.MIGRATION_DRIVERS
        or function.vgpu_type is not None
    )


def check_migration(context: Context, gpu: Function) -> Findings:
    """Note what can be done with servers that have a GPU, or a VF of it."""
    vfs = list(context.host.list_vfs(gpu))
    if any(one.mdev_types for one in (gpu, *vfs)):
        # Nova decides by the types of mediated devices.
        return
    movable = [vf for vf in vfs if can_migrate(vf)]
    shown = movable[0] if movable else gpu
    yield _LIVE_MIGRATION.note(
        f"{len(movable)} VFs have a driver that can migrate them"
        f' ({shown.driver}): "live_migratable": "yes" may be set for these'
        if movable
        else "servers with this device cannot be live-migrated, only"
        " cold-migrated, resized or evacuated: vfio-pci keeps no state",
        show_driver(shown),
        device=gpu.address,
    )
