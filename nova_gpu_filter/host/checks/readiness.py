# SPDX-License-Identifier: Apache-2.0

"""Can the devices of a host be passed through: every check, and its order.

Sources: the kernel's Documentation/ABI/testing/sysfs-bus-pci; Nova's
nova/pci/manager.py.
"""

from collections.abc import Callable

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import boards
from nova_gpu_filter.host.checks import confidential
from nova_gpu_filter.host.checks import declared_vfs
from nova_gpu_filter.host.checks import health
from nova_gpu_filter.host.checks import host_needs
from nova_gpu_filter.host.checks import iommu
from nova_gpu_filter.host.checks import iommu_group
from nova_gpu_filter.host.checks import memory
from nova_gpu_filter.host.checks import nvswitches
from nova_gpu_filter.host.checks import reset
from nova_gpu_filter.host.checks import vfio_modules
from nova_gpu_filter.host.checks import vgpus
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import compute_exit_code
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind

_DEVICES = Reporter("devices")
_DEVICE = Reporter("device")
_ADDRESS = Reporter("address")
_DRIVER = Reporter("driver")
_BOOT = Reporter("boot")
_CONSOLE = Reporter("console")
_ORDER = tuple(Severity)


def rank_severity(finding: Finding) -> int:
    """Rank a finding: the worst have the lowest rank."""
    return _ORDER.index(finding.severity)


def check(context: Context) -> list[Finding]:
    """Run every check; the worst first, the host before its devices."""
    findings = [
        finding for check_one in _CHECKS for finding in check_one(context)
    ]
    findings.sort(key=lambda one: (rank_severity(one), one.device is not None))
    return findings


def _check_devices(context: Context) -> Findings:
    """Check the devices of a host, or those that were asked about."""
    host = context.host
    only = context.asked
    gpus = host.gpus
    # The display of the console is for the host, unless it has no other GPU
    # or the operator names it; so is that of a processor. The graphics of its
    # BMC, of its board or of a virtual machine are no GPU at all.
    real = [gpu for gpu in gpus if not gpu.is_display_only]
    candidates = [gpu for gpu in real if not gpu.is_needed_by_host] or real
    if not real:
        yield _DEVICES.error(
            "there is no GPU on this host",
            context.read_listing(address_lib.DEVICES),
        )
    for gpu in gpus:
        if only and gpu.address not in only:
            continue
        if gpu in candidates or only:
            yield from _check_device(context, gpu)
        elif not gpu.is_boot_display or gpu.is_display_only:
            yield from host_needs.check(context, gpu, False)
        else:
            yield _CONSOLE.note(
                "this is the display of the host's console, and is left to it",
                *host_needs.list_evidence(gpu),
                device=gpu.address,
            )
            yield from host_needs.check_boot(context, gpu)
    for device in (*host.nvswitches, *host.nics):
        if only and device.address not in only:
            continue
        if device.is_needed_by_host and not device.sriov_numvfs:
            yield from host_needs.check(context, device, bool(only))
            if not only:
                continue
        yield from _check_shared_device(context, device, bool(only))


def _check_device(context: Context, gpu: Function) -> Findings:
    mediated = list(vgpus.check_mediated(context, gpu))
    found = [
        *_check_address(gpu),
        *_check_console(context, gpu),
        # Its driver makes vGPUs: that it is no VFIO driver has been said.
        *(
            mediated
            or (*_check_drivers(context, gpu), *_check_boot(context, gpu))
        ),
        *iommu_group.check(context, gpu),
        *vgpus.check_sriov(context, gpu),
        *reset.check(context, gpu),
        *health.check(context, gpu),
        *confidential.check(context, gpu),
        *vgpus.check_migration(context, gpu),
    ]
    yield from found
    if not mediated and not compute_exit_code(found):
        yield _DEVICE.ok(
            f"{gpu.product or gpu.ids} can be passed through",
            show_driver(gpu),
            device=gpu.address,
        )


def _check_address(gpu: Function) -> Findings:
    if gpu.address.domain > address_lib.MAX_NOVA_DOMAIN:
        yield _ADDRESS.error(
            f"PCI domain {gpu.address.domain:x} is above ffff, and Nova"
            " ignores such devices",
            Evidence(gpu.address.path, "present"),
            device=gpu.address,
            cures=(
                "# take the slot out of the domain of Intel VMD in the"
                " firmware's setup",
            ),
        )


def _check_console(context: Context, gpu: Function) -> Findings:
    if gpu.is_display_only:
        yield from host_needs.check(context, gpu, True)
    elif gpu.is_boot_display:
        yield _CONSOLE.warning(
            "the host's console is on this GPU: it goes dark when a guest"
            " gets it",
            *host_needs.list_evidence(gpu),
            device=gpu.address,
            cures=(
                "# make another display the primary one in the firmware's"
                " setup, or use a serial console (console=ttyS0)",
            ),
        )


def _check_drivers(context: Context, gpu: Function) -> Findings:
    """Check what the functions of the card are bound to."""
    for function in context.host.list_card_functions(gpu):
        driver = function.driver
        yield from _check_vfio_driver(context, function)
        if (
            driver is None
            or driver in drivers.VFIO_DRIVERS
            or driver in drivers.HARMLESS
        ):
            continue
        if function is gpu and gpu.sriov_numvfs:
            # Guests get the VFs, which the driver of the PF makes.
            continue
        is_gpu = function.kind is Kind.GPU
        bind = drivers.bind_to_vfio(function.address, driver, function.ids)
        if is_gpu and driver in drivers.VF_MAKERS:
            yield _DRIVER.error(
                f"the GPU is bound to {driver}, which makes VFs of it, and"
                " there are none: guests have nothing to get",
                show_driver(function),
                context.show_file(function, "sriov_numvfs"),
                device=function.address,
                cures=(
                    f"# have {driver} make VFs (its parameter vf_num), or:",
                    *bind,
                ),
            )
            continue
        name = function.class_name or f"function {function.ids}"
        what = "the GPU" if is_gpu else f"the card's {name.lower()}"
        why = (
            "libvirt cannot take it away from a running driver without risk"
            if driver in drivers.DISPLAY
            else "the card's IOMMU group cannot be given to a guest"
        )
        yield _DRIVER.error(
            f"{what} is bound to {driver}, not to"
            f" {drivers.find_vfio_driver(function.ids)}: {why}",
            show_driver(function),
            device=function.address,
            cures=bind,
        )


def _check_vfio_driver(context: Context, function: Function) -> Findings:
    """Check which of the VFIO drivers a function has, or is to get."""
    driver, override = function.driver, function.driver_override
    wanted = drivers.find_vfio_driver(function.ids)
    bind = drivers.bind_to_vfio(function.address, driver, function.ids)
    if driver is None and override and drivers.is_misspelt(override):
        yield _DRIVER.warning(
            f"driver_override is {override}, and no driver has exactly that"
            " name: the device gets none",
            context.show_file(function, "driver_override"),
            device=function.address,
            cures=bind,
        )
    if (
        driver in drivers.VFIO_DRIVERS
        and wanted != drivers.VFIO
        and driver not in drivers.Names({wanted})
    ):
        yield _DRIVER.error(
            f"the device is bound to {driver}, and a guest has its memory only"
            f" with {wanted}, without which its driver does not work",
            show_driver(function),
            device=function.address,
            cures=bind,
        )


def _check_boot(context: Context, gpu: Function) -> Findings:
    """Check which driver each function of the card gets after a reboot."""
    for function in context.host.list_card_functions(gpu):
        if function is gpu and gpu.sriov_numvfs:
            # The driver of a PF makes the VFs that guests get.
            continue
        modules = context.boot.list_grabbers(function)
        if not modules:
            continue
        setting = context.boot.find_ids_setting(function)
        yield _BOOT.warning(
            context.boot.explain(function, modules),
            Evidence(
                f"{function.address.path}/modalias",
                function.modalias or "not there",
            ),
            *((setting,) if setting is not None else ()),
            device=function.address,
            cures=binding.write_commands(context, gpu, function),
        )


def _check_shared_device(
    context: Context, device: Function, is_asked_for: bool
) -> Findings:
    """Check an NVSwitch or a NIC, which the host commonly keeps."""
    driver = device.driver
    if driver is not None and driver not in drivers.VFIO_DRIVERS:
        names = " ".join((*device.interfaces, *device.rdma_devices))
        what = "NVSwitch" if device.kind is Kind.NVSWITCH else "network card"
        yield _DRIVER.report(
            Severity.WARNING if is_asked_for else Severity.NOTE,
            f"the {what} is bound to {driver}: the host uses it, and loses it"
            " to a guest that gets it",
            Evidence(
                f"{device.address.path}/driver",
                f"{driver} ({names})" if names else driver,
            ),
            device=device.address,
            cures=drivers.bind_to_vfio(device.address, driver, device.ids)
            if is_asked_for
            else (),
        )
    is_for_guests = is_asked_for or driver in drivers.VFIO_DRIVERS
    if is_for_guests:
        yield from _check_address(device)
        yield from iommu_group.check(context, device)
        yield from reset.check_methods(context, device)
    if is_for_guests or device.kind is Kind.NVSWITCH:
        yield from health.check(context, device)
        yield from confidential.check(context, device)


_CHECKS: tuple[Callable[[Context], Findings], ...] = (
    iommu.check,
    vfio_modules.check_vfio,
    vfio_modules.check_initramfs,
    host_needs.check_others,
    nvswitches.check,
    memory.check,
    boards.check,
    confidential.check_host,
    declared_vfs.check,
    _check_devices,
)
