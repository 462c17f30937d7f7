# SPDX-License-Identifier: Apache-2.0

"""Is a device one that the host itself needs?"""

from nova_gpu_filter.host.boot import driver_overrides
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Use

CHECK = Reporter("host-use")

# What to do before such a device can go to a guest, by the use.
_FIRST = {
    Use.BMC: "# leave it to the host: the BMC's remote console shows it",
    Use.DISPLAY: "# leave it to the host: it is good for a console only",
    Use.PROCESSOR: (
        "# leave it to the host, or bind it to vfio-pci to offer it"
    ),
    Use.MANAGEMENT: "# leave it to the host, which is managed by it",
    Use.CONSOLE: (
        "# make another display the primary one in the firmware's setup, or"
        " use a serial console (console=ttyS0)"
    ),
    Use.NETWORK: (
        "# leave it to the host, or give its network to another card first:"
        " take it out of bond, bridge or VLAN and set the interface down"
    ),
    Use.DISK: (
        "# leave it to the host, or move its data to another disk first"
    ),
}


def list_evidence(function: Function) -> tuple[Evidence, ...]:
    """Show where the uses of a device were seen."""
    return tuple(
        dict.fromkeys(
            Evidence(one.path, one.content) for one in function.host_uses
        )
    )


def list_cures(function: Function) -> tuple[str, ...]:
    """Say what to do before a guest can have a device."""
    return tuple(dict.fromkeys(_FIRST[one.use] for one in function.host_uses))


def check(
    context: Context, function: Function, is_asked_for: bool
) -> Findings:
    """Check a device that the host needs.

    :param is_asked_for: the operator named it, and so wants to give it away.
    """
    if is_asked_for:
        yield CHECK.warning(
            f"the host needs this device ({function.why_needed}), and loses"
            " it to a guest that gets it",
            *list_evidence(function),
            device=function.address,
            cures=list_cures(function),
        )
        return
    taken = tuple(check_boot(context, function))
    yield from taken
    if not taken:
        yield CHECK.note(
            f"this device is left to the host, which needs it:"
            f" {function.why_needed}",
            *list_evidence(function),
            device=function.address,
        )


def check_boot(context: Context, function: Function) -> Findings:
    """Check that vfio-pci leaves a device that the host needs at boot."""
    boot = context.boot
    taken = boot.find_vfio_setting(function)
    if taken is None or boot.has_builtin(boot.list_candidates(function)):
        return
    yield CHECK.warning(
        f"the host needs this device ({function.why_needed}), but vfio-pci"
        " takes it at the next boot",
        *list_evidence(function),
        taken,
        device=function.address,
        cures=(
            f"# take {function.ids} out of {taken.path}"
            if taken.path != driver_overrides.name_driverctl_file(function)
            else f"driverctl unset-override {function.address}",
            "# if guests get others with the same ids, bind those by their"
            " addresses: nova-gpu-host config --udev",
        ),
    )


def check_others(context: Context) -> Findings:
    """Check the same of what is no GPU and no RDMA NIC: disks, plain NICs."""
    if not context.boot.takes_devices:
        return
    for function in context.others:
        if function.is_needed_by_host:
            yield from check_boot(context, function)
