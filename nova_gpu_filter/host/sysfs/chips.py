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


# Architecture, compute capability, chips.
_NVIDIA_CHIPS = (
    ("Tesla", "1.0", "G80"),
    ("Tesla", "1.1", "G84 G86 G92 G94 G96 G98"),
    ("Tesla", "1.2", "GT215 GT216 GT218"),
    ("Tesla", "1.3", "GT200"),
    ("Fermi", "2.0", "GF100 GF110"),
    ("Fermi", "2.1", "GF104 GF106 GF108 GF114 GF116 GF117 GF119"),
    ("Kepler", "3.0", "GK104 GK106 GK107"),
    ("Kepler", "3.5", "GK110 GK180 GK208"),
    ("Kepler", "3.7", "GK210"),
    ("Maxwell", "5.0", "GM107 GM108"),
    ("Maxwell", "5.2", "GM200 GM204 GM206"),
    ("Pascal", "6.0", "GP100"),
    ("Pascal", "6.1", "GP102 GP104 GP106 GP107 GP108"),
    ("Volta", "7.0", "GV100"),
    ("Turing", "7.5", "TU102 TU104 TU106 TU116 TU117"),
    ("Ampere", "8.0", "GA100"),
    ("Ampere", "8.6", "GA102 GA103 GA104 GA106 GA107"),
    ("Ada", "8.9", "AD102 AD103 AD104 AD106 AD107"),
    ("Hopper", "9.0", "GH100"),
    ("Blackwell", "10.0", "GB100 GB102"),
    ("Blackwell", "10.3", "GB110"),
    ("Blackwell", "12.0", "GB202 GB203 GB205 GB206 GB207"),
    ("Blackwell", "12.1", "GB20B"),
    # NVIDIA names no compute capability of them yet.
    ("Rubin", None, "GR100 GR102"),
)

# By vendor.
_OTHER_CHIPS = {
    AMD: (
        Chip("Tonga", "GCN3", isa="gfx802"),
        Chip("Fiji", "GCN3", isa="gfx803"),
        Chip("Ellesmere", "GCN4", isa="gfx803"),
        Chip("Baffin", "GCN4", isa="gfx803"),
        Chip("Vega 10", "GCN5", isa="gfx900"),
        Chip("Vega 12", "GCN5", isa="gfx904"),
        Chip("Vega 20", "GCN5", isa="gfx906"),
        Chip("Arcturus", "CDNA", isa="gfx908"),
        Chip("Aldebaran", "CDNA2", isa="gfx90a"),
        Chip("Aqua Vanjaram", "CDNA3", isa="gfx942"),
        Chip("MI350", "CDNA4", isa="gfx950"),
        Chip("Navi 10", "RDNA", isa="gfx1010"),
        Chip("Navi 12", "RDNA", isa="gfx1011"),
        Chip("Navi 14", "RDNA", isa="gfx1012"),
        Chip("Navi 21", "RDNA2", isa="gfx1030"),
        Chip("Navi 22", "RDNA2", isa="gfx1031"),
        Chip("Navi 23", "RDNA2", isa="gfx1032"),
        Chip("Navi 24", "RDNA2", isa="gfx1034"),
        Chip("Navi 31", "RDNA3", isa="gfx1100"),
        Chip("Navi 32", "RDNA3", isa="gfx1101"),
        Chip("Navi 33", "RDNA3", isa="gfx1102"),
        Chip("Navi 44", "RDNA4", isa="gfx1200"),
        Chip("Navi 48", "RDNA4", isa="gfx1201"),
    ),
    INTEL: (
        Chip("DG1", "Xe-LP"),
        Chip("DG2", "Xe-HPG"),
        Chip("ATS-M", "Xe-HPG"),
        Chip("Ponte Vecchio", "Xe-HPC"),
        Chip("Battlemage", "Xe2"),
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Ids:
    """Product ids of one chip, where names do not tell, or are missing."""

    vendor_id: int
    first: int
    last: int
    code_name: str


# Sources: the products of each row in pci.ids, and LLVM for gfx950.
_BY_IDS = (
    _Ids(AMD, 0x738C, 0x7390, "Arcturus"),  # MI100
    _Ids(AMD, 0x7408, 0x7410, "Aldebaran"),  # MI210, MI250 and VF
    _Ids(AMD, 0x74A0, 0x74BF, "Aqua Vanjaram"),  # MI300, MI325, VFs
    # pci.ids calls them Aqua Vanjaram, too.
    _Ids(AMD, 0x75A0, 0x75BF, "MI350"),  # MI350X, MI350P, MI355X and VFs
    _Ids(NVIDIA, 0x2321, 0x2348, "GH100"),  # H100, H200, H20, GH200
    _Ids(NVIDIA, 0x2901, 0x2901, "GB100"),  # B200
    _Ids(NVIDIA, 0x2941, 0x2941, "GB100"),  # GB200
    _Ids(NVIDIA, 0x2BB1, 0x2BB5, "GB202"),  # RTX PRO 6000 Blackwell
    _Ids(NVIDIA, 0x3182, 0x3182, "GB110"),  # B300 SXM6
    _Ids(NVIDIA, 0x31C2, 0x31C3, "GB110"),  # GB300
)

# Blocks of ids that NVIDIA has given to one chip each, for products that are
# newer than the database of names. Source: every product of the block in
# pci.ids.
_BLOCKS = (
    _Ids(NVIDIA, 0x1D01, 0x1D56, "GP108"),
    _Ids(NVIDIA, 0x1D81, 0x1DF6, "GV100"),
    _Ids(NVIDIA, 0x1E02, 0x1E78, "TU102"),
    _Ids(NVIDIA, 0x1E81, 0x1EF5, "TU104"),
    _Ids(NVIDIA, 0x1F02, 0x1F76, "TU106"),
    _Ids(NVIDIA, 0x1F81, 0x1FFF, "TU117"),
    _Ids(NVIDIA, 0x2080, 0x20FF, "GA100"),
    _Ids(NVIDIA, 0x2182, 0x21FF, "TU116"),
    _Ids(NVIDIA, 0x2200, 0x227F, "GA102"),
    _Ids(NVIDIA, 0x2300, 0x237F, "GH100"),
    _Ids(NVIDIA, 0x2400, 0x247F, "GA103"),
    _Ids(NVIDIA, 0x2480, 0x24FF, "GA104"),
    _Ids(NVIDIA, 0x2501, 0x257F, "GA106"),
    _Ids(NVIDIA, 0x2580, 0x25FF, "GA107"),
    _Ids(NVIDIA, 0x2680, 0x26FF, "AD102"),
    _Ids(NVIDIA, 0x2700, 0x277F, "AD103"),
    _Ids(NVIDIA, 0x2780, 0x27FF, "AD104"),
    _Ids(NVIDIA, 0x2800, 0x287F, "AD106"),
    _Ids(NVIDIA, 0x2880, 0x28FF, "AD107"),
    _Ids(NVIDIA, 0x2B80, 0x2BFF, "GB202"),
    _Ids(NVIDIA, 0x2C00, 0x2C7F, "GB203"),
    _Ids(NVIDIA, 0x2D00, 0x2D7F, "GB206"),
    _Ids(NVIDIA, 0x2D80, 0x2DFF, "GB207"),
    _Ids(NVIDIA, 0x2F00, 0x2F7F, "GB205"),
)

_NVIDIA_BY_CODE = {
    code: Chip(code, architecture, capability)
    for architecture, capability, codes in _NVIDIA_CHIPS
    for code in codes.split()
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
        return _NVIDIA_BY_CODE.get(match[1]) or Chip(match[1])
    for chip in _OTHER_CHIPS.get(vendor_id, ()):
        if re.match(rf"{re.escape(chip.code_name)}(?![0-9A-Za-z])", name):
            return chip
    return None
