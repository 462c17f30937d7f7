# SPDX-License-Identifier: Apache-2.0

"""Display adapters that are no GPUs for guests, known by their ids.

Sources: the PCI ids of the kernel's drivers and the PCI ID Repository, a
line each.
"""

from collections.abc import Iterable
import dataclasses

from nova_gpu_filter.host.address import PciAddress

BASE_CLASS = 0x03
_BMC = "the graphics of the host's BMC"
_BOARD = "the display adapter of the board"
_VIRTUAL = "the display adapter of a virtual machine"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A kind of display adapter."""

    name: str
    what: str
    """``the graphics of the host's BMC``."""
    vendor_id: int
    product_ids: frozenset[int]
    """Empty: any."""
    source: str

    @property
    def is_of_bmc(self) -> bool:
        """Whether it is part of a BMC."""
        return self.what == _BMC


@dataclasses.dataclass(frozen=True, slots=True)
class OfProcessor:
    """Graphics that are part of a processor: for guests, or for the host."""

    name: str
    vendor_id: int
    product_ids: frozenset[int]
    """Empty: any."""
    address: PciAddress | None
    """Where it always is; None: anywhere."""
    drivers: frozenset[str]
    """By which the host has it as a display."""
    source: str


def _expand_ids(*ids: int | range) -> frozenset[int]:
    return frozenset(
        number
        for one in ids
        for number in (one if isinstance(one, range) else (one,))
    )


_ANY = _expand_ids()

DISPLAYS = (
    Row("ASPEED", _BMC, 0x1A03, _ANY, "drivers/gpu/drm/ast/ast_drv.c"),
    Row(
        "Matrox G200",
        _BMC,
        0x102B,
        _expand_ids(
            *(0x0520, 0x0521, 0x0522, 0x0524, 0x0530, 0x0532),
            *(0x0533, 0x0534, 0x0536, 0x0538, 0x053A),
        ),
        "drivers/gpu/drm/mgag200/mgag200_drv.c",
    ),
    Row(
        "HiSilicon Hi171x",
        _BMC,
        0x19E5,
        _expand_ids(0x1711),
        "drivers/gpu/drm/hisilicon/hibmc/hibmc_drm_drv.c",
    ),
    Row(
        "XGI Volari",
        _BMC,
        0x18CA,
        _ANY,
        "drivers/video/fbdev/sis/sis_main.h; pci.ids 18ca",
    ),
    Row(
        "Silicon Motion",
        _BMC,
        0x126F,
        _ANY,
        "drivers/video/fbdev/sm712fb.c, drivers/staging/sm750fb/sm750.c",
    ),
    Row(
        "ATI ES1000 or Rage XL",
        _BMC,
        0x1002,
        _expand_ids(0x4752, 0x515E, 0x5969),
        "include/drm/drm_pciids.h (RV100), drivers/video/fbdev/aty"
        " (Rage XL); pci.ids names ES1000",
    ),
    Row(
        "Phytium",
        _BOARD,
        0x1DB7,
        _ANY,
        "pci.ids 1db7: dc20 and dc22 of X100, dc3e of E2000, parts of"
        " chipsets and processors only",
    ),
    Row(
        "Loongson",
        _BOARD,
        0x0014,
        _ANY,
        "drivers/gpu/drm/loongson/lsdc_drv.c: 7a06, 7a36; pci.ids 0014:"
        " 7a05 to 7a46, parts of chipsets and processors only",
    ),
    Row(
        "Zhaoxin",
        _BOARD,
        0x1D17,
        _ANY,
        "pci.ids 1d17: 3a02 to 3d01, of ZX-100 to KX-7000, parts of chipsets"
        " and processors only",
    ),
    Row(
        "VIA",
        _BOARD,
        0x1106,
        _ANY,
        "drivers/video/fbdev/via/via-core.c; pci.ids 1106: parts of chipsets"
        " only",
    ),
    Row(
        "QEMU or Bochs",
        _VIRTUAL,
        0x1234,
        _expand_ids(0x1111),
        "drivers/gpu/drm/tiny/bochs.c; QEMU, docs/specs/standard-vga.rst",
    ),
    Row(
        "Simics",
        _VIRTUAL,
        0x4321,
        _expand_ids(0x1111),
        "drivers/gpu/drm/tiny/bochs.c",
    ),
    Row(
        "QEMU's Cirrus",
        _VIRTUAL,
        0x1013,
        _ANY,
        "drivers/gpu/drm/tiny/cirrus-qemu.c: 00b8; pci.ids 1013 knows no"
        " adapter of this century",
    ),
    Row(
        "QXL",
        _VIRTUAL,
        0x1B36,
        _expand_ids(0x0100),
        "drivers/gpu/drm/qxl/qxl_drv.c",
    ),
    Row(
        "virtio",
        _VIRTUAL,
        0x1AF4,
        _expand_ids(0x1050),
        "drivers/gpu/drm/virtio/virtgpu_drv.c; Virtio 1.2, GPU Device: 16",
    ),
    Row(
        "VMware SVGA",
        _VIRTUAL,
        0x15AD,
        _expand_ids(0x0405, 0x0406, 0x0710),
        "drivers/gpu/drm/vmwgfx/vmwgfx_drv.c; pci.ids 15ad",
    ),
    Row(
        "VirtualBox",
        _VIRTUAL,
        0x80EE,
        _expand_ids(0xBEEF),
        "drivers/gpu/drm/vboxvideo/vbox_drv.c",
    ),
    Row(
        "Hyper-V",
        _VIRTUAL,
        0x1414,
        _expand_ids(0x5353),
        "drivers/gpu/drm/hyperv/hyperv_drm_drv.c",
    ),
    Row(
        "Parallels",
        _VIRTUAL,
        0x1AB8,
        _expand_ids(0x4005),
        "pci.ids 1ab8: Accelerated Virtual Video Adapter",
    ),
    Row(
        "Xen",
        _VIRTUAL,
        0x5853,
        _expand_ids(0xC147),
        "pci.ids 5853: Virtualized Graphics Device",
    ),
)

OF_PROCESSORS = (
    OfProcessor(
        "Intel",
        0x8086,
        _ANY,
        PciAddress.parse("0000:00:02.0"),
        frozenset({"i915", "xe", "gma500"}),
        "QEMU, docs/igd-assign.txt: always at 00:02.0",
    ),
    OfProcessor(
        "AMD",
        0x1002,
        _expand_ids(
            *(range(0x1304, 0x131E), range(0x9830, 0x9860)),
            *(range(0x9870, 0x9878), 0x98E4, 0x15D8, 0x15DD, 0x15E7),
            *(0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x1681),
            *(0x1114, 0x13C0, 0x1506, 0x150E, 0x1586, 0x15BF, 0x15C8),
            *(0x164E, 0x164F, 0x1900, 0x1901, 0x1902),
        ),
        None,
        frozenset({"amdgpu", "radeon"}),
        "drivers/gpu/drm/amd/amdgpu/amdgpu_drv.c: AMD_IS_APU; pci.ids 1002:"
        " those of Raphael, Phoenix, Strix and other processors. MI300A is"
        " none: it has no display",
    ),
)


def find(vendor_id: int, product_id: int, class_code: int) -> Row | None:
    """Find the row of a function; None: it is no such adapter."""
    if class_code >> 16 != BASE_CLASS:
        return None
    for row in DISPLAYS:
        if row.vendor_id == vendor_id and (
            not row.product_ids or product_id in row.product_ids
        ):
            return row
    return None


def find_of_processor(
    address: PciAddress,
    vendor_id: int,
    product_id: int,
    class_code: int,
    driver: str | None,
    files: Iterable[str],
) -> OfProcessor | None:
    """Find graphics of a processor that the host has as a display.

    :param driver: that the function is bound to.
    :param files: of the function, in sysfs.
    :returns: None if it is no such thing, or is for guests: it is bound to
        none of the row's drivers, or has VFs or mediated devices.
    """
    if class_code >> 16 != BASE_CLASS or any(
        name == "mdev_supported_types" or name.startswith("virtfn")
        for name in files
    ):
        return None
    row = find_processor(address, vendor_id, product_id)
    return row if row is not None and driver in row.drivers else None


def find_processor(
    address: PciAddress, vendor_id: int, product_id: int
) -> OfProcessor | None:
    """Find whose graphics a display is, whatever uses it; None: a card's."""
    for row in OF_PROCESSORS:
        if (
            row.vendor_id == vendor_id
            and (not row.product_ids or product_id in row.product_ids)
            and row.address in (None, address)
        ):
            return row
    return None
