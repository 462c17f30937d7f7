# SPDX-License-Identifier: Apache-2.0

"""Can one device be passed through: driver, SR-IOV, address, and the rest.

Sources: the kernel's Documentation/PCI/pci-iov-howto.rst and
Documentation/ABI/testing/sysfs-bus-pci; Nova's nova/pci/manager.py.
"""

from collections.abc import Iterator

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import confidential
from nova_gpu_filter.host.checks import health
from nova_gpu_filter.host.checks import host_needs
from nova_gpu_filter.host.checks import iommu_group
from nova_gpu_filter.host.checks import live_migration
from nova_gpu_filter.host.checks import mediated_devices
from nova_gpu_filter.host.checks import reset
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.vgpu import state as vgpu_state


def check(
    context: Context, only: frozenset[PciAddress] = frozenset()
) -> Iterator[Finding]:
    """Check the devices of a host.

    :param only: look at these; at all if empty.
    """
    host = context.host
    gpus = host.gpus
    # The display of the console is for the host, unless it has no other GPU
    # or the operator names it; so is that of a processor. The graphics of its
    # BMC, of its board or of a virtual machine are no GPU at all.
    real = [gpu for gpu in gpus if not gpu.is_display_only]
    candidates = [gpu for gpu in real if not gpu.is_needed_by_host] or real
    if not real:
        yield Finding(
            Severity.ERROR,
            "devices",
            "there is no GPU on this host",
            evidence=(context.read_listing(address_lib.DEVICES),),
        )
    for gpu in gpus:
        if only and gpu.address not in only:
            continue
        if gpu in candidates or only:
            yield from _check_device(context, gpu)
        elif not gpu.is_boot_display or gpu.is_display_only:
            yield from host_needs.check(context, gpu, False)
        else:
            yield Finding(
                Severity.NOTE,
                "console",
                "this is the display of the host's console, and is left to it",
                device=str(gpu.address),
                evidence=host_needs.list_evidence(gpu),
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


def _check_device(context: Context, gpu: Function) -> Iterator[Finding]:
    mediated = list(mediated_devices.check(context, gpu))
    found = [
        *_check_address(gpu),
        *_check_console(context, gpu),
        # Its driver makes vGPUs: that it is no VFIO driver has been said.
        *(
            mediated
            or (*_check_drivers(context, gpu), *_check_boot(context, gpu))
        ),
        *iommu_group.check(context, gpu),
        *_check_sriov(context, gpu),
        *reset.check(context, gpu),
        *health.check(context, gpu),
        *confidential.check(context, gpu),
        *live_migration.check(context, gpu),
    ]
    yield from found
    if not mediated and not any(
        finding.severity in (Severity.ERROR, Severity.WARNING)
        for finding in found
    ):
        yield Finding(
            Severity.OK,
            "device",
            f"{gpu.product or gpu.ids} can be passed through",
            device=str(gpu.address),
            evidence=(show_driver(gpu),),
        )


def _check_address(gpu: Function) -> Iterator[Finding]:
    if gpu.address.domain > address_lib.MAX_NOVA_DOMAIN:
        yield Finding(
            Severity.ERROR,
            "address",
            f"PCI domain {gpu.address.domain:x} is above ffff, and Nova"
            " ignores such devices",
            device=str(gpu.address),
            evidence=(Evidence(gpu.address.path, "present"),),
            cures=(
                "# take the slot out of the domain of Intel VMD in the"
                " firmware's setup",
            ),
        )


def _check_console(context: Context, gpu: Function) -> Iterator[Finding]:
    if gpu.is_display_only:
        yield from host_needs.check(context, gpu, True)
    elif gpu.is_boot_display:
        yield Finding(
            Severity.WARNING,
            "console",
            "the host's console is on this GPU: it goes dark when a guest"
            " gets it",
            device=str(gpu.address),
            evidence=host_needs.list_evidence(gpu),
            cures=(
                "# make another display the primary one in the firmware's"
                " setup, or use a serial console (console=ttyS0)",
            ),
        )


def _check_drivers(context: Context, gpu: Function) -> Iterator[Finding]:
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
        is_gpu = function.kind is Kind.GPU
        what = "the GPU" if is_gpu else f"the card's {_name(function)}"
        why = (
            "libvirt cannot take it away from a running driver without risk"
            if driver in drivers.DISPLAY
            else "the card's IOMMU group cannot be given to a guest"
        )
        if function is gpu and gpu.sriov_numvfs:
            # Guests get the VFs, which the driver of the PF makes.
            continue
        if is_gpu and driver in drivers.VF_MAKERS:
            yield Finding(
                Severity.ERROR,
                "driver",
                f"the GPU is bound to {driver}, which makes VFs of it, and"
                " there are none: guests have nothing to get",
                device=str(function.address),
                evidence=(
                    show_driver(function),
                    context.show_file(function, "sriov_numvfs"),
                ),
                cures=(
                    f"# have {driver} make VFs (its parameter vf_num), or:",
                    *drivers.bind_to_vfio(
                        function.address, driver, function.ids
                    ),
                ),
            )
            continue
        yield Finding(
            Severity.ERROR,
            "driver",
            f"{what} is bound to {driver}, not to"
            f" {drivers.find_vfio_driver(function.ids)}: {why}",
            device=str(function.address),
            evidence=(show_driver(function),),
            cures=drivers.bind_to_vfio(function.address, driver, function.ids),
        )


def _check_vfio_driver(
    context: Context, function: Function
) -> Iterator[Finding]:
    """Check which of the VFIO drivers a function has, or is to get."""
    wanted = drivers.find_vfio_driver(function.ids)
    override = function.driver_override
    if function.driver is None and override and drivers.is_misspelt(override):
        yield Finding(
            Severity.WARNING,
            "driver",
            f"driver_override is {override}, and no driver has exactly that"
            " name: the device gets none",
            device=str(function.address),
            evidence=(context.show_file(function, "driver_override"),),
            cures=drivers.bind_to_vfio(
                function.address, function.driver, function.ids
            ),
        )
    if (
        function.driver in drivers.VFIO_DRIVERS
        and wanted != drivers.VFIO
        and function.driver not in drivers.Names({wanted})
    ):
        yield Finding(
            Severity.ERROR,
            "driver",
            f"the device is bound to {function.driver}, and a guest has its"
            f" memory only with {wanted}, without which its driver does not"
            " work",
            device=str(function.address),
            evidence=(show_driver(function),),
            cures=drivers.bind_to_vfio(
                function.address, function.driver, function.ids
            ),
        )


def _name(function: Function) -> str:
    return (function.class_name or f"function {function.ids}").lower()


def _check_boot(context: Context, gpu: Function) -> Iterator[Finding]:
    """Check which driver each function of the card gets after a reboot."""
    for function in context.host.list_card_functions(gpu):
        if function is gpu and gpu.sriov_numvfs:
            # The driver of a PF makes the VFs that guests get.
            continue
        modules = context.boot.list_grabbers(function)
        if not modules:
            continue
        setting = context.boot.find_ids_setting(function)
        evidence = [
            Evidence(
                f"{function.address.path}/modalias",
                function.modalias or "not there",
            )
        ]
        if setting is not None:
            evidence.append(setting)
        text = context.boot.explain(function, modules)
        yield Finding(
            Severity.WARNING,
            "boot",
            text,
            device=str(function.address),
            evidence=tuple(evidence),
            cures=binding.write_commands(context, gpu, function),
        )


def _check_sriov(context: Context, gpu: Function) -> Iterator[Finding]:
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
        yield Finding(
            Severity.NOTE,
            "sr-iov",
            "the GPU can have VFs, so Nova calls it type-PF: its alias needs"
            ' "device_type": "type-PF"',
            device=str(gpu.address),
            evidence=evidence,
        )
        return
    remove = (
        f"{vgpu_state.SRIOV_MANAGE} -d {gpu.address}"
        if gpu.driver == "nvidia"
        else f"echo 0 > {gpu.address.path}/sriov_numvfs"
    )
    no_vfs = f"{remove}  # to pass the whole GPU through"
    vfs = list(context.host.list_vfs(gpu))
    if any(vf.mdev_types for vf in vfs):
        yield Finding(
            Severity.NOTE,
            "sr-iov",
            f"{gpu.sriov_numvfs} VFs are on and carry mediated devices, whose"
            " types Nova offers by [devices]enabled_mdev_types: neither they"
            " nor the GPU are for passthrough",
            device=str(gpu.address),
            evidence=evidence,
            cures=(no_vfs,),
        )
        return
    host_bound = [
        vf
        for vf in vfs
        if vf.driver is not None
        and vf.driver not in drivers.VFIO_DRIVERS
        and vf.driver != "nvidia"
    ]
    yield Finding(
        Severity.NOTE,
        "sr-iov",
        f"{gpu.sriov_numvfs} VFs are on: offer these (type-VF) and not the"
        " GPU itself, of which Nova can track only the one or the other",
        device=str(gpu.address),
        evidence=evidence,
        cures=(no_vfs,),
    )
    if host_bound:
        yield Finding(
            Severity.WARNING,
            "sr-iov",
            f"{len(host_bound)} of {gpu.sriov_numvfs} VFs are bound to"
            f" {host_bound[0].driver}",
            device=str(gpu.address),
            evidence=(show_driver(host_bound[0]),),
            cures=drivers.bind_to_vfio(
                host_bound[0].address,
                host_bound[0].driver,
                host_bound[0].ids,
            ),
        )
    for vf in vfs:
        yield from iommu_group.check(context, vf)


def _check_shared_device(
    context: Context, device: Function, is_asked_for: bool
) -> Iterator[Finding]:
    """Check an NVSwitch or a NIC, which the host commonly keeps."""
    driver = device.driver
    if driver is not None and driver not in drivers.VFIO_DRIVERS:
        names = " ".join((*device.interfaces, *device.rdma_devices))
        what = "NVSwitch" if device.kind is Kind.NVSWITCH else "network card"
        yield Finding(
            Severity.WARNING if is_asked_for else Severity.NOTE,
            "driver",
            f"the {what} is bound to {driver}: the host uses it, and loses it"
            " to a guest that gets it",
            device=str(device.address),
            evidence=(
                Evidence(
                    f"{device.address.path}/driver",
                    f"{driver} ({names})" if names else driver,
                ),
            ),
            cures=(
                drivers.bind_to_vfio(device.address, driver, device.ids)
                if is_asked_for
                else ()
            ),
        )
    if is_asked_for or driver in drivers.VFIO_DRIVERS:
        yield from _check_address(device)
        yield from iommu_group.check(context, device)
        yield from reset.check_methods(context, device)
    if (
        is_asked_for
        or driver in drivers.VFIO_DRIVERS
        or (device.kind is Kind.NVSWITCH)
    ):
        yield from health.check(context, device)
        yield from confidential.check(context, device)
