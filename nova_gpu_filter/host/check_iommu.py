# SPDX-License-Identifier: Apache-2.0

"""Is the IOMMU on, and does it remap interrupts?

Sources: the kernel's Documentation/arch/x86/iommu.rst,
Documentation/admin-guide/kernel-parameters.txt (intel_iommu, amd_iommu,
iommu, intremap) and Documentation/driver-api/vfio.rst.
"""

from collections.abc import Iterator

from nova_gpu_filter.host import reader
from nova_gpu_filter.host.context import Context
from nova_gpu_filter.host.findings import Evidence
from nova_gpu_filter.host.findings import Finding
from nova_gpu_filter.host.findings import Severity

_TABLES = "/sys/firmware/acpi/tables"
_UNITS = "/sys/class/iommu"
_INTERRUPTS = "/proc/interrupts"
_CPUINFO = "/proc/cpuinfo"
_UNSAFE = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
_NO_IOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
_OFF = ("intel_iommu", "amd_iommu", "iommu")

_FIRMWARE = {
    "GenuineIntel": "VT-d",
    "AuthenticAMD": "AMD-Vi (IOMMU)",
}


def check(context: Context) -> Iterator[Finding]:
    """Check the IOMMU of the host."""
    groups = context.tree.entries(reader.GROUPS)
    if groups:
        yield Finding(
            Severity.OK,
            "iommu",
            f"the IOMMU is on: {len(groups)} groups",
            evidence=(
                Evidence(reader.GROUPS, f"{len(groups)} groups"),
                context.boot.cmdline_evidence,
            ),
        )
        yield from _interrupts(context)
        yield from _passthrough_mode(context)
    else:
        yield _is_off(context)
    yield from _unsafe(context)


def _cpu(context: Context) -> str | None:
    text = context.tree.read(_CPUINFO) or ""
    for line in text.splitlines():
        if line.startswith("vendor_id"):
            return line.split(":", 1)[-1].strip()
    return None


def _is_virtual(context: Context) -> bool:
    text = context.tree.read(_CPUINFO) or ""
    for line in text.splitlines():
        if line.startswith("flags"):
            return "hypervisor" in line.split()
    return False


def _is_off(context: Context) -> Finding:
    """Say why there are no groups, and how to get them."""
    cpu = _cpu(context)
    evidence = [
        context.listing(reader.GROUPS),
        context.boot.cmdline_evidence,
    ]
    for key, value in context.boot.cmdline:
        if key in _OFF and "off" in (value or "").split(","):
            return Finding(
                Severity.ERROR,
                "iommu",
                f"the IOMMU is switched off on the kernel command line:"
                f" {key}={value}",
                evidence=tuple(evidence),
                cures=(
                    f"# take {key}={value} from the kernel command line",
                    *_arguments(context, cpu),
                ),
            )
    tables = [
        name
        for name in ("DMAR", "IVRS", "IORT")
        if context.tree.exists(f"{_TABLES}/{name}")
    ]
    if not tables:
        evidence += [
            Evidence(f"{_TABLES}/{name}", None) for name in ("DMAR", "IVRS")
        ]
        if _is_virtual(context):
            return Finding(
                Severity.ERROR,
                "iommu",
                "this is a virtual machine without an IOMMU",
                evidence=(*evidence, Evidence(_CPUINFO, "flags: hypervisor")),
                cures=(
                    "# give the virtual machine a virtual IOMMU (libvirt:"
                    " <iommu model='intel'><driver intremap='on'"
                    " caching_mode='on'/></iommu> with machine type q35), or"
                    " use the host that it runs on as compute node",
                ),
            )
        name = _FIRMWARE.get(cpu or "", "the IOMMU")
        return Finding(
            Severity.ERROR,
            "iommu",
            "the firmware announces no IOMMU (no DMAR or IVRS table)",
            evidence=tuple(evidence),
            cures=(
                f"# switch on {name} in the firmware's setup, then:",
                *_arguments(context, cpu),
            ),
        )
    evidence += [Evidence(f"{_TABLES}/{name}", "present") for name in tables]
    evidence.append(context.listing(_UNITS))
    return Finding(
        Severity.ERROR,
        "iommu",
        "the IOMMU is there, but the kernel does not use it: no IOMMU groups",
        evidence=tuple(evidence),
        cures=_arguments(context, cpu),
    )


def _arguments(context: Context, cpu: str | None) -> tuple[str, ...]:
    # AMD's driver is on by default; Intel's depends on the distribution.
    if cpu == "AuthenticAMD":
        return context.kernel_arguments("iommu=pt")
    return context.kernel_arguments("intel_iommu=on", "iommu=pt")


def _interrupts(context: Context) -> Iterator[Finding]:
    """Check interrupt remapping, by the names of interrupt controllers.

    With remapping they bear the prefix IR: ``IR-PCI-MSI``. The kernel tells
    it nowhere else without root.
    """
    if _cpu(context) not in _FIRMWARE:
        return
    text = context.tree.read(_INTERRUPTS)
    if text is None:
        return
    for line in text.splitlines():
        if " IR-" in line:
            yield Finding(
                Severity.OK,
                "interrupt-remapping",
                "interrupts are remapped",
                evidence=(Evidence(_INTERRUPTS, line),),
            )
            return
    shown = [line for line in text.splitlines() if "MSI" in line][:1]
    evidence = (
        Evidence(_INTERRUPTS, shown[0] if shown else "no line with IR-"),
        context.boot.cmdline_evidence,
        context.evidence(_UNSAFE),
    )
    if context.tree.read(_UNSAFE) == "Y":
        yield Finding(
            Severity.WARNING,
            "interrupt-remapping",
            "interrupts are not remapped, and VFIO was told to allow it: a"
            " guest can inject interrupts into the host",
            evidence=evidence,
            cures=(
                "# switch on interrupt remapping (x2APIC) in the firmware's"
                " setup, then take allow_unsafe_interrupts from"
                " /etc/modprobe.d",
            ),
        )
        return
    yield Finding(
        Severity.ERROR,
        "interrupt-remapping",
        "interrupts are not remapped: VFIO refuses to give devices to guests",
        evidence=evidence,
        cures=(
            "# switch on interrupt remapping (x2APIC) in the firmware's"
            " setup, and take intremap=off and nointremap from the kernel"
            " command line",
        ),
    )


def _passthrough_mode(context: Context) -> Iterator[Finding]:
    if "pt" not in context.boot.parameters("iommu"):
        yield Finding(
            Severity.NOTE,
            "iommu",
            "iommu=pt is not set: devices that the host itself uses may go"
            " through the IOMMU, which costs them speed",
            evidence=(context.boot.cmdline_evidence,),
            cures=context.kernel_arguments("iommu=pt"),
        )


def _unsafe(context: Context) -> Iterator[Finding]:
    if context.tree.read(_NO_IOMMU) == "Y":
        yield Finding(
            Severity.WARNING,
            "iommu",
            "VFIO works without an IOMMU here: a guest's device can read and"
            " write all memory of the host",
            evidence=(context.evidence(_NO_IOMMU),),
            cures=(
                "echo N > /sys/module/vfio/parameters/"
                "enable_unsafe_noiommu_mode",
                "grep -r enable_unsafe_noiommu_mode /etc/modprobe.d",
            ),
        )
