# SPDX-License-Identifier: Apache-2.0

"""What a chip's code name says: its architecture and compute capability.

The PCI ID Repository names a GPU by its chip and, in brackets, its product:
``GK104GL [GRID K2]``. The chip, not the product, decides the architecture.

Sources. NVIDIA: chips and their architecture from nouveau's code names
(https://nouveau.freedesktop.org/CodeNames.html) and the chip list of NVIDIA's
open kernel modules (src/nvidia/generated, ``chipID``); compute capabilities
from https://developer.nvidia.com/cuda-gpus and, for those that CUDA no longer
supports, .../cuda-legacy-gpus. AMD: the processor table of LLVM's "User Guide
for AMDGPU Backend" (https://llvm.org/docs/AMDGPUUsage.html). Intel: the
platform list of Mesa and of the kernel's i915 and xe drivers
(include/drm/intel/pciids.h).

A chip that is not listed has no architecture: it is not guessed.
"""

import dataclasses
import re

NVIDIA = 0x10DE
AMD = 0x1002
INTEL = 0x8086


@dataclasses.dataclass(frozen=True, slots=True)
class Chip:
    """What a code name stands for."""

    code_name: str
    """As in the database, without variants: ``GK104``."""
    architecture: str | None = None
    """``Kepler``; None where we do not know the chip."""
    compute_capability: str | None = None
    """CUDA compute capability: ``3.0``. None for other vendors."""
    isa: str | None = None
    """AMD's processor name for compilers: ``gfx942``. None for others."""


# Chip -> compute capability, by architecture.
_NVIDIA_CHIPS: dict[str, dict[str, str | None]] = {
    "Tesla": {
        "G80": "1.0",
        "G84": "1.1",
        "G86": "1.1",
        "G92": "1.1",
        "G94": "1.1",
        "G96": "1.1",
        "G98": "1.1",
        "GT200": "1.3",
        "GT215": "1.2",
        "GT216": "1.2",
        "GT218": "1.2",
    },
    "Fermi": {
        "GF100": "2.0",
        "GF104": "2.1",
        "GF106": "2.1",
        "GF108": "2.1",
        "GF110": "2.0",
        "GF114": "2.1",
        "GF116": "2.1",
        "GF117": "2.1",
        "GF119": "2.1",
    },
    "Kepler": {
        "GK104": "3.0",
        "GK106": "3.0",
        "GK107": "3.0",
        "GK110": "3.5",
        "GK180": "3.5",
        "GK208": "3.5",
        "GK210": "3.7",
    },
    "Maxwell": {
        "GM107": "5.0",
        "GM108": "5.0",
        "GM200": "5.2",
        "GM204": "5.2",
        "GM206": "5.2",
    },
    "Pascal": {
        "GP100": "6.0",
        "GP102": "6.1",
        "GP104": "6.1",
        "GP106": "6.1",
        "GP107": "6.1",
        "GP108": "6.1",
    },
    "Volta": {"GV100": "7.0"},
    "Turing": {
        "TU102": "7.5",
        "TU104": "7.5",
        "TU106": "7.5",
        "TU116": "7.5",
        "TU117": "7.5",
    },
    "Ampere": {
        "GA100": "8.0",
        "GA102": "8.6",
        "GA103": "8.6",
        "GA104": "8.6",
        "GA106": "8.6",
        "GA107": "8.6",
    },
    "Ada": {
        "AD102": "8.9",
        "AD103": "8.9",
        "AD104": "8.9",
        "AD106": "8.9",
        "AD107": "8.9",
    },
    "Hopper": {"GH100": "9.0"},
    "Blackwell": {
        "GB100": "10.0",
        "GB102": "10.0",
        "GB110": "10.3",
        "GB202": "12.0",
        "GB203": "12.0",
        "GB205": "12.0",
        "GB206": "12.0",
        "GB207": "12.0",
        "GB20B": "12.1",
    },
    # NVIDIA names no compute capability of them yet.
    "Rubin": {"GR100": None, "GR102": None},
}

# Code name -> (architecture, processor).
_AMD_CHIPS = {
    "Tonga": ("GCN3", "gfx802"),
    "Fiji": ("GCN3", "gfx803"),
    "Ellesmere": ("GCN4", "gfx803"),
    "Baffin": ("GCN4", "gfx803"),
    "Vega 10": ("GCN5", "gfx900"),
    "Vega 12": ("GCN5", "gfx904"),
    "Vega 20": ("GCN5", "gfx906"),
    "Arcturus": ("CDNA", "gfx908"),
    "Aldebaran": ("CDNA2", "gfx90a"),
    "Aqua Vanjaram": ("CDNA3", "gfx942"),
    "MI350": ("CDNA4", "gfx950"),
    "Navi 10": ("RDNA", "gfx1010"),
    "Navi 12": ("RDNA", "gfx1011"),
    "Navi 14": ("RDNA", "gfx1012"),
    "Navi 21": ("RDNA2", "gfx1030"),
    "Navi 22": ("RDNA2", "gfx1031"),
    "Navi 23": ("RDNA2", "gfx1032"),
    "Navi 24": ("RDNA2", "gfx1034"),
    "Navi 31": ("RDNA3", "gfx1100"),
    "Navi 32": ("RDNA3", "gfx1101"),
    "Navi 33": ("RDNA3", "gfx1102"),
    "Navi 44": ("RDNA4", "gfx1200"),
    "Navi 48": ("RDNA4", "gfx1201"),
}

_INTEL_CHIPS = {
    "DG1": "Xe-LP",
    "DG2": "Xe-HPG",
    "ATS-M": "Xe-HPG",
    "Ponte Vecchio": "Xe-HPC",
    "Battlemage": "Xe2",
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Ids:
    """Product ids of one chip, where names do not tell, or are missing."""

    vendor_id: int
    first: int
    last: int
    code_name: str
    source: str


_BY_IDS = (
    _Ids(AMD, 0x738C, 0x7390, "Arcturus", "pci.ids: MI100"),
    _Ids(AMD, 0x7408, 0x7410, "Aldebaran", "pci.ids: MI210, MI250 and VF"),
    _Ids(AMD, 0x74A0, 0x74BF, "Aqua Vanjaram", "pci.ids: MI300, MI325, VFs"),
    # pci.ids calls them Aqua Vanjaram, too.
    _Ids(
        AMD,
        0x75A0,
        0x75BF,
        "MI350",
        "pci.ids: MI350X, MI350P, MI355X and VFs; LLVM: gfx950",
    ),
    _Ids(NVIDIA, 0x2321, 0x2348, "GH100", "pci.ids: H100, H200, H20, GH200"),
    _Ids(NVIDIA, 0x2901, 0x2901, "GB100", "pci.ids: B200"),
    _Ids(NVIDIA, 0x2941, 0x2941, "GB100", "pci.ids: GB200"),
    _Ids(NVIDIA, 0x2BB1, 0x2BB5, "GB202", "pci.ids: RTX PRO 6000 Blackwell"),
    _Ids(NVIDIA, 0x3182, 0x3182, "GB110", "pci.ids: B300 SXM6"),
    _Ids(NVIDIA, 0x31C2, 0x31C3, "GB110", "pci.ids: GB300"),
)

# Blocks of ids that NVIDIA has given to one chip each, for products that are
# newer than the database of names.
_BLOCKS = tuple(
    _Ids(NVIDIA, first, last, code, "pci.ids: every product of the block")
    for first, last, code in (
        (0x1D01, 0x1D56, "GP108"),
        (0x1D81, 0x1DF6, "GV100"),
        (0x1E02, 0x1E78, "TU102"),
        (0x1E81, 0x1EF5, "TU104"),
        (0x1F02, 0x1F76, "TU106"),
        (0x1F81, 0x1FFF, "TU117"),
        (0x2080, 0x20FF, "GA100"),
        (0x2182, 0x21FF, "TU116"),
        (0x2200, 0x227F, "GA102"),
        (0x2300, 0x237F, "GH100"),
        (0x2400, 0x247F, "GA103"),
        (0x2480, 0x24FF, "GA104"),
        (0x2501, 0x257F, "GA106"),
        (0x2580, 0x25FF, "GA107"),
        (0x2680, 0x26FF, "AD102"),
        (0x2700, 0x277F, "AD103"),
        (0x2780, 0x27FF, "AD104"),
        (0x2800, 0x287F, "AD106"),
        (0x2880, 0x28FF, "AD107"),
        (0x2B80, 0x2BFF, "GB202"),
        (0x2C00, 0x2C7F, "GB203"),
        (0x2D00, 0x2D7F, "GB206"),
        (0x2D80, 0x2DFF, "GB207"),
        (0x2F00, 0x2F7F, "GB205"),
    )
)

_NVIDIA_BY_CODE = {
    code: (architecture, capability)
    for architecture, chips in _NVIDIA_CHIPS.items()
    for code, capability in chips.items()
}
_NVIDIA_CODE = re.compile(r"(G[0-9]{2}|[A-Z]{2}[0-9]{2}[0-9B])(?![0-9])")
_PRODUCT = re.compile(r"\[(?P<product>[^]]+)\]\s*$")


def extract_product(name: str) -> str:
    """Give the product without its chip: ``GK104GL [GRID K2]``, ``GRID K2``.

    A name without brackets is its own product.
    """
    match = _PRODUCT.search(name)
    return match["product"].strip() if match else name.strip()


def find(vendor_id: int, product_id: int, name: str | None) -> Chip | None:
    """Find the chip of a device, by its ids or else by its name.

    :param name: the device's name in the PCI ID Repository; None if that does
        not know it.
    :returns: None if neither tells.
    """
    return (
        _find_by_ids(_BY_IDS, vendor_id, product_id)
        or (find_chip(vendor_id, name) if name else None)
        or _find_by_ids(_BLOCKS, vendor_id, product_id)
    )


def _find_by_ids(
    rows: tuple[_Ids, ...], vendor_id: int, product_id: int
) -> Chip | None:
    for ids in rows:
        if ids.vendor_id == vendor_id and ids.first <= product_id <= ids.last:
            return find_chip(vendor_id, ids.code_name)
    return None


def find_chip(vendor_id: int, name: str) -> Chip | None:
    """Find the chip that a device name begins with.

    :param name: the device's name in the PCI ID Repository.
    :returns: None if no code name stands in it.
    """
    if vendor_id == NVIDIA:
        match = _NVIDIA_CODE.match(name)
        if match is None:
            return None
        known = _NVIDIA_BY_CODE.get(match[1], (None, None))
        return Chip(match[1], *known)
    if vendor_id == AMD:
        for code, (architecture, isa) in _AMD_CHIPS.items():
            if _begins(name, code):
                return Chip(code, architecture, isa=isa)
        return None
    if vendor_id == INTEL:
        for code, architecture in _INTEL_CHIPS.items():
            if _begins(name, code):
                return Chip(code, architecture)
    return None


def _begins(name: str, code: str) -> bool:
    return re.match(rf"{re.escape(code)}(?![0-9A-Za-z])", name) is not None
