# SPDX-License-Identifier: Apache-2.0

"""Is the IOMMU on, and does it remap interrupts?

Sources: the kernel's Documentation/arch/x86/iommu.rst,
Documentation/admin-guide/kernel-parameters.txt (intel_iommu, amd_iommu,
iommu, intremap) and Documentation/driver-api/vfio.rst.
"""

from collections.abc import Sequence

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.sysfs import device_paths

_IOMMU = Reporter("iommu")
_REMAPPING = Reporter("interrupt-remapping")
_GROUP = Reporter("group")

_TABLES = "/sys/firmware/acpi/tables"
_UNITS = "/sys/class/iommu"
_DEVICE_TREE = "/sys/firmware/devicetree/base"
_MADE_UP = "vfio-noiommu"
"""The name of a group that VFIO makes where there is no IOMMU
(vfio_noiommu_group_alloc in drivers/vfio/group.c)."""

# Arguments of the kernel that switch the IOMMU off.
_OFF = (
    # Documentation/admin-guide/kernel-parameters.txt
    ("intel_iommu", "off"),
    ("amd_iommu", "off"),
    ("iommu", "off"),
    ("acpi", "off"),  # the tables are not read
    # drivers/iommu/loongarch_iommu.c of openEuler
    ("loongarch_iommu", "off"),
    # arch/x86/kernel/pci-dma.c: SWIOTLB in its place
    ("iommu", "soft"),
)
# Kernels before 5.5 know iommu=pt on x86 only; iommu.passthrough is of all.
_PASSTHROUGH = (("iommu", ("pt",)), ("iommu.passthrough", ("1", "y", "on")))
_NOSID = ("intremap", "nosid")
"""With it, a device can make interrupts in the name of another."""
_NO_REMAPPING = (("intremap", "off"), ("nointremap", ""), _NOSID)


def check(context: Context) -> Findings:
    """Check the IOMMU of the host."""
    groups = context.tree.list_entries(device_paths.GROUPS)
    if groups and not _has_made_up_groups(context, groups):
        yield _IOMMU.ok(
            f"the IOMMU is on: {len(groups)} groups",
            Evidence(device_paths.GROUPS, f"{len(groups)} groups"),
            context.boot.cmdline_evidence,
        )
        yield from _check_interrupts(context)
        yield from _check_passthrough_mode(context)
        yield from _check_groups(context)
    else:
        yield _is_off(context)
    yield from _check_unsafe(context)


def _has_made_up_groups(context: Context, groups: Sequence[str]) -> bool:
    """Tell whether all groups are those that VFIO makes without an IOMMU.

    QEMU cannot use them: their nodes are /dev/vfio/noiommu-N.
    """
    return context.tree.read(paths.NO_IOMMU) == "Y" and all(
        context.tree.read(f"{device_paths.GROUPS}/{group}/name") == _MADE_UP
        for group in groups
    )


def _is_off(context: Context) -> Finding:
    """Say why there are no groups, and how to get them."""
    host = iommu_platforms.find_platform(context)
    evidence = [
        context.read_listing(device_paths.GROUPS),
        context.boot.cmdline_evidence,
    ]
    if context.tree.read(paths.HYPERVISOR) == "xen":
        return _IOMMU.error(
            "this kernel runs under Xen, which keeps the IOMMU to itself: KVM"
            " and VFIO need a kernel that was booted without it",
            *evidence,
            context.read_evidence(paths.HYPERVISOR),
            cures=("# boot the kernel without Xen, and then check again",),
        )
    off = [
        (key, value)
        for key, value in context.boot.cmdline
        if any((key, part) in _OFF for part in (value or "").split(","))
    ]
    if off:
        key, value = off[0]
        return _IOMMU.error(
            f"the IOMMU is switched off on the kernel command line:"
            f" {key}={value}",
            *evidence,
            cures=context.suggest_kernel_arguments(
                *iommu_platforms.list_arguments(context), without=off
            ),
        )
    of_tables = [f"{_TABLES}/{name}" for name in host.tables]
    tables = [path for path in of_tables if context.tree.exists(path)]
    units = context.tree.list_entries(_UNITS)
    is_by_device_tree = not context.tree.is_directory(_TABLES) and (
        context.tree.is_directory(_DEVICE_TREE)
    )
    if is_by_device_tree and not units:
        # Machines of arm64 and RISC-V may have no ACPI at all.
        return _IOMMU.error(
            f"the device tree has no unit of {host.name} that is on, or the"
            " kernel no driver of it",
            *evidence,
            Evidence(_DEVICE_TREE, "present"),
            context.read_listing(_UNITS),
            cures=(
                f"# switch on {host.name} in the firmware's setup, or have it"
                ' in the device tree (status = "okay", and iommu-map of the'
                " PCI host bridge), or boot with ACPI",
            ),
        )
    if not tables and not is_by_device_tree:
        evidence += [Evidence(path, None) for path in of_tables]
        if iommu_platforms.is_virtual(context):
            return _IOMMU.error(
                "this is a virtual machine without an IOMMU",
                *evidence,
                Evidence(paths.CPUINFO, "flags: hypervisor"),
                cures=(
                    "# give the virtual machine a virtual IOMMU (libvirt:"
                    " <iommu model='intel'><driver intremap='on'"
                    " caching_mode='on'/></iommu> with machine type q35), or"
                    " use the host that it runs on as compute node",
                ),
            )
        return _IOMMU.error(
            "the firmware announces no IOMMU (no"
            f" {' or '.join(host.tables) or 'ACPI'} table)",
            *evidence,
            cures=(
                f"# switch on {host.name} in the firmware's setup, then:",
                *_list_arguments(context),
            ),
        )
    evidence += [Evidence(path, "present") for path in tables]
    evidence.append(context.read_listing(_UNITS))
    if not host.is_in_table and not units:
        return _IOMMU.error(
            f"the firmware has {host.name} switched off: there is no unit of"
            " it",
            *evidence,
            cures=(f"# switch on {host.name} in the firmware's setup",),
        )
    return _IOMMU.error(
        "the IOMMU is there, but the kernel does not use it: no IOMMU groups",
        *evidence,
        cures=_list_arguments(context),
    )


def _list_arguments(context: Context) -> tuple[str, ...]:
    wanted = iommu_platforms.list_arguments(context)
    return context.suggest_kernel_arguments(*wanted) if wanted else ()


def _check_interrupts(context: Context) -> Findings:
    """Check interrupt remapping, by the names of interrupt controllers.

    With remapping they bear the prefix IR: ``IR-PCI-MSI``. The kernel tells
    it nowhere else without root.
    """
    if not iommu_platforms.find_platform(context).remaps_interrupts:
        return
    if "nosid" in context.boot.list_parameter_values("intremap"):
        yield _REMAPPING.warning(
            "intremap=nosid: who makes an interrupt is not checked, and a"
            " guest can make those of others",
            context.boot.cmdline_evidence,
            cures=context.suggest_kernel_arguments(without=[_NOSID]),
        )
    text = context.tree.read(paths.INTERRUPTS)
    if text is None:
        return
    lines = text.splitlines()
    for line in lines:
        if " IR-" in line:
            yield _REMAPPING.ok(
                "interrupts are remapped", Evidence(paths.INTERRUPTS, line)
            )
            return
    shown = next((line for line in lines if "MSI" in line), "no line with IR-")
    evidence = (
        Evidence(paths.INTERRUPTS, shown),
        context.boot.cmdline_evidence,
        context.read_evidence(paths.UNSAFE_INTERRUPTS),
    )
    switched_off = [
        (key, value)
        for key, value in context.boot.cmdline
        if (key, value or "") in _NO_REMAPPING
    ]
    kernel = (
        context.suggest_kernel_arguments(without=switched_off)
        if switched_off
        else ()
    )
    setup = "# switch on interrupt remapping (x2APIC) in the firmware's setup"
    if context.tree.read(paths.UNSAFE_INTERRUPTS) == "Y":
        yield _REMAPPING.warning(
            "interrupts are not remapped, and VFIO is configured to allow it:"
            " a guest can inject interrupts into the host",
            *evidence,
            cures=(
                *kernel,
                f"{setup}, then take allow_unsafe_interrupts from"
                " /etc/modprobe.d",
            ),
        )
        return
    yield _REMAPPING.error(
        "interrupts are not remapped: VFIO refuses to give devices to guests",
        *evidence,
        cures=(*kernel, setup),
    )


def _check_groups(context: Context) -> Findings:
    values = context.boot.list_parameter_values("pcie_acs_override")
    if values:
        yield _GROUP.warning(
            f"pcie_acs_override={','.join(values)} makes IOMMU groups where"
            " the hardware does not isolate: devices of different guests can"
            " read and write one another's memory",
            context.boot.cmdline_evidence,
            cures=(
                "# switch on ACS in the firmware's setup; devices that are"
                " in one group without the argument are for one guest only:",
                *context.suggest_kernel_arguments(
                    without=[
                        (key, value)
                        for key, value in context.boot.cmdline
                        if key == "pcie_acs_override"
                    ]
                ),
            ),
        )


def _check_passthrough_mode(context: Context) -> Findings:
    if any(
        value in context.boot.list_parameter_values(name)
        for name, values in _PASSTHROUGH
        for value in values
    ):
        return
    wanted = [
        one
        for one in iommu_platforms.list_arguments(context)
        if not one.endswith("iommu=on")
    ]
    if wanted:
        yield _IOMMU.note(
            f"{wanted[0]} is not set: devices that the host itself uses may"
            " go through the IOMMU, which costs them speed",
            context.boot.cmdline_evidence,
            cures=context.suggest_kernel_arguments(*wanted),
        )


def _check_unsafe(context: Context) -> Findings:
    if context.tree.read(paths.NO_IOMMU) == "Y":
        yield _IOMMU.warning(
            "VFIO works without an IOMMU here: a guest's device can read and"
            " write all memory of the host",
            context.read_evidence(paths.NO_IOMMU),
            cures=(
                "echo N > /sys/module/vfio/parameters/"
                "enable_unsafe_noiommu_mode",
                "grep -r enable_unsafe_noiommu_mode /etc/modprobe.d",
            ),
        )
