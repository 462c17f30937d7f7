# SPDX-License-Identifier: Apache-2.0

"""How the IOMMU of each kind of processor is named, announced and set.

Source: the kernel's Documentation/admin-guide/kernel-parameters.txt, and what
each row names.
"""

import dataclasses
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.checks.context import Context

# With it, the kernel has no SEV-SNP (iommu_snp_enable in
# drivers/iommu/amd/init.c).
_NOT_WITH_SNP = frozenset({"iommu=pt"})


@dataclasses.dataclass(frozen=True, slots=True)
class Platform:
    """How processors of one vendor or architecture have their IOMMU."""

    pattern: str
    """A line of /proc/cpuinfo by which they are known."""
    name: str
    """What the setup of the firmware calls the IOMMU."""
    arguments: tuple[str, ...]
    """What the kernel has to be told so that it is on, and the host's own
    devices go past it."""
    tables: tuple[str, ...]
    """The ACPI tables that announce it; empty: the kernel needs none."""
    remaps_interrupts: bool
    """Whether interrupt controllers show it (``IR-`` in /proc/interrupts)."""
    is_in_table: bool = True
    """Whether the table is there only with the IOMMU."""
    source: str = ""
    machine_type: str | None = "q35"
    """For guests with large BARs; None: the default is the right one."""
    container: str = "vfio_iommu_type1"
    """The module of VFIO for it."""


_DMAR = ("DMAR",)
_IVRS = ("IVRS",)
_VT_D = ("intel_iommu=on", "iommu=pt")
_PLATFORMS = (
    Platform(
        r"vendor_id\s*:\s*GenuineIntel",
        "VT-d",
        _VT_D,
        _DMAR,
        True,
        source="kernel-parameters.txt, intel_iommu",
    ),
    Platform(
        r"vendor_id\s*:\s*AuthenticAMD",
        "AMD-Vi (IOMMU)",
        # It is on by default.
        ("iommu=pt",),
        _IVRS,
        True,
        source="kernel-parameters.txt, amd_iommu",
    ),
    Platform(
        r"vendor_id\s*:\s*HygonGenuine",
        "AMD-Vi (IOMMU)",
        ("iommu=pt",),
        _IVRS,
        True,
        source="arch/x86/kernel/cpu/hygon.c: a Zen of AMD's",
    ),
    Platform(
        r"vendor_id\s*:\s*(CentaurHauls|Shanghai)",
        "VT-d",
        _VT_D,
        _DMAR,
        True,
        source="drivers/iommu/intel/dmar.c: Zhaoxin's has a DMAR table",
    ),
    Platform(
        r"CPU implementer\s*:",
        "the SMMU",
        ("iommu.passthrough=1",),
        ("IORT",),
        False,
        is_in_table=False,
        source="drivers/acpi/arm64/iort.c; iommu= is of x86 only",
        machine_type=None,
    ),
    Platform(
        r"isa\s*:\s*rv",
        "the IOMMU",
        ("iommu.passthrough=1",),
        ("RIMT",),
        False,
        source="drivers/acpi/riscv/rimt.c; iommu= is of x86 only",
        machine_type=None,
    ),
    Platform(
        r"cpu\s*:\s*POWER",
        "the IOMMU",
        (),
        (),
        False,
        source="arch/powerpc/platforms/powernv: always on",
        machine_type=None,
        container="vfio_iommu_spapr_tce",
    ),
    Platform(
        r"CPU Family\s*:\s*Loongson",
        "the IOMMU",
        ("loongarch_iommu=on",),
        _IVRS,
        False,
        source="drivers/iommu/loongarch_iommu.c of openEuler and Anolis"
        " (la_iommu_setup, IVRS): off by default; Linux itself has none",
        machine_type=None,
    ),
    Platform(
        r"vendor_id\s*:\s*IBM/S390",
        "the IOMMU",
        (),
        (),
        False,
        source="drivers/iommu/s390-iommu.c: always on",
        machine_type=None,
    ),
)
_UNKNOWN = Platform("", "the IOMMU", _VT_D, (*_DMAR, *_IVRS, "IORT"), False)


def find_platform(context: Context) -> Platform:
    """Find the platform of a host by its processors."""
    text = context.tree.read(paths.CPUINFO) or ""
    for one in _PLATFORMS:
        if re.search(rf"^{one.pattern}", text, re.MULTILINE):
            return one
    return _UNKNOWN


def list_arguments(context: Context) -> tuple[str, ...]:
    """Name the kernel's arguments that switch the IOMMU on."""
    has_snp = context.tree.read(paths.SNP) in ("Y", "y", "1")
    return tuple(
        one
        for one in find_platform(context).arguments
        if not (has_snp and one in _NOT_WITH_SNP)
    )


def is_virtual(context: Context) -> bool:
    """Tell whether this is a virtual machine, by its processors."""
    text = context.tree.read(paths.CPUINFO) or ""
    flags = re.search("^flags.*", text, re.MULTILINE)
    return flags is not None and "hypervisor" in flags[0].split()
