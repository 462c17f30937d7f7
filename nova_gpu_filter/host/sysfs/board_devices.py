# SPDX-License-Identifier: Apache-2.0

"""Displays that are no GPUs for guests, and devices that manage the board.

They are known by their ids. Above each row is its source: a driver of the
kernel, a specification, or the PCI ID Repository.
"""

from collections.abc import Iterator
import dataclasses
from typing import NamedTuple

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Use

DISPLAY = 0x03
"""The class of displays."""


class _Role(NamedTuple):
    use: Use
    text: str


_BMC = _Role(Use.BMC, "the graphics of the host's BMC")
_BOARD = _Role(Use.DISPLAY, "the display adapter of the board")
_VIRTUAL = _Role(Use.DISPLAY, "the display adapter of a virtual machine")
_CHANNEL = _Role(Use.MANAGEMENT, "the host's way to its BMC")

_ANY: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A kind of device, and what the host has it for."""

    name: str
    role: _Role
    vendor_id: int | None
    product_ids: frozenset[int] = _ANY
    """Empty: any."""
    base_class: int | None = DISPLAY
    """Class (``0x03``) or class and subclass (``0x0c07``); None: any."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class ProductData:
    """What a device's vital product data says of its use."""

    name: str
    vendor_id: int
    product_ids: frozenset[int]
    marker: bytes


_ROWS = (
    # drivers/gpu/drm/ast/ast_drv.c
    Row("ASPEED", _BMC, 0x1A03),
    # drivers/gpu/drm/mgag200/mgag200_drv.c
    Row(
        "Matrox G200",
        _BMC,
        0x102B,
        frozenset(
            (
                *(0x0520, 0x0521, 0x0522, 0x0524, 0x0530, 0x0532),
                *(0x0533, 0x0534, 0x0536, 0x0538, 0x053A),
            )
        ),
    ),
    # drivers/gpu/drm/hisilicon/hibmc/hibmc_drm_drv.c
    Row("HiSilicon Hi171x", _BMC, 0x19E5, frozenset({0x1711})),
    # drivers/video/fbdev/sis/sis_main.h; pci.ids 18ca
    Row("XGI Volari", _BMC, 0x18CA),
    # drivers/video/fbdev/sm712fb.c, drivers/staging/sm750fb/sm750.c
    Row("Silicon Motion", _BMC, 0x126F),
    # include/drm/drm_pciids.h (RV100), drivers/video/fbdev/aty (Rage XL);
    # pci.ids names ES1000
    Row(
        "ATI ES1000 or Rage XL",
        _BMC,
        0x1002,
        frozenset({0x4752, 0x515E, 0x5969}),
    ),
    # pci.ids 1db7: dc20 and dc22 of X100, dc3e of E2000, parts of chipsets
    # and processors only
    Row("Phytium", _BOARD, 0x1DB7),
    # drivers/gpu/drm/loongson/lsdc_drv.c: 7a06, 7a36; pci.ids 0014: 7a05 to
    # 7a46, parts of chipsets and processors only
    Row("Loongson", _BOARD, 0x0014),
    # pci.ids 1d17: 3a02 to 3d01, of ZX-100 to KX-7000, parts of chipsets and
    # processors only
    Row("Zhaoxin", _BOARD, 0x1D17),
    # drivers/video/fbdev/via/via-core.c; pci.ids 1106: parts of chipsets only
    Row("VIA", _BOARD, 0x1106),
    # drivers/gpu/drm/tiny/bochs.c; QEMU, docs/specs/standard-vga.rst
    Row("QEMU or Bochs", _VIRTUAL, 0x1234, frozenset({0x1111})),
    # drivers/gpu/drm/tiny/bochs.c
    Row("Simics", _VIRTUAL, 0x4321, frozenset({0x1111})),
    # drivers/gpu/drm/tiny/cirrus-qemu.c: 00b8; pci.ids 1013 knows no adapter
    # of this century
    Row("QEMU's Cirrus", _VIRTUAL, 0x1013),
    # drivers/gpu/drm/qxl/qxl_drv.c
    Row("QXL", _VIRTUAL, 0x1B36, frozenset({0x0100})),
    # drivers/gpu/drm/virtio/virtgpu_drv.c; Virtio 1.2, GPU Device: 16
    Row("virtio", _VIRTUAL, 0x1AF4, frozenset({0x1050})),
    # drivers/gpu/drm/vmwgfx/vmwgfx_drv.c; pci.ids 15ad
    Row("VMware SVGA", _VIRTUAL, 0x15AD, frozenset({0x0405, 0x0406, 0x0710})),
    # drivers/gpu/drm/vboxvideo/vbox_drv.c
    Row("VirtualBox", _VIRTUAL, 0x80EE, frozenset({0xBEEF})),
    # drivers/gpu/drm/hyperv/hyperv_drm_drv.c
    Row("Hyper-V", _VIRTUAL, 0x1414, frozenset({0x5353})),
    # pci.ids 1ab8: Accelerated Virtual Video Adapter
    Row("Parallels", _VIRTUAL, 0x1AB8, frozenset({0x4005})),
    # pci.ids 5853: Virtualized Graphics Device
    Row("Xen", _VIRTUAL, 0x5853, frozenset({0xC147})),
    # PCI Code and ID Assignment Specification 1.15, 0c07h;
    # drivers/char/ipmi/ipmi_si_pci.c
    Row("IPMI interface", _CHANNEL, None, _ANY, 0x0C07),
    # drivers/misc/hpilo.c, drivers/watchdog/hpwdt.c
    Row("iLO channel", _CHANNEL, 0x103C, frozenset({0x3306, 0x3307}), None),
    Row("iLO channel", _CHANNEL, 0x0E11, frozenset({0xB203, 0xB204}), None),
)

_OF_PROCESSORS = (
    # QEMU, docs/igd-assign.txt: always at 00:02.0
    OfProcessor(
        "Intel",
        0x8086,
        _ANY,
        PciAddress.parse("0000:00:02.0"),
        frozenset({"i915", "xe", "gma500"}),
    ),
    # drivers/gpu/drm/amd/amdgpu/amdgpu_drv.c: AMD_IS_APU; pci.ids 1002: those
    # of Raphael, Phoenix, Strix and other processors. MI300A is none: it has
    # no display
    OfProcessor(
        "AMD",
        0x1002,
        frozenset(
            (
                *range(0x1304, 0x131E),
                *range(0x9830, 0x9860),
                *range(0x9870, 0x9878),
                *(0x98E4, 0x15D8, 0x15DD, 0x15E7),
                *(0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x1681),
                *(0x1114, 0x13C0, 0x1506, 0x150E, 0x1586, 0x15BF, 0x15C8),
                *(0x164E, 0x164F, 0x1900, 0x1901, 0x1902),
            )
        ),
        None,
        frozenset({"amdgpu", "radeon"}),
    ),
)

BY_PRODUCT_DATA = (
    # NVIDIA's Fabric Manager User Guide, NVLink Subnet Manager: the ConnectX-7
    # whose VPD has SMDL=SW_MNG
    ProductData(
        "it manages the NVSwitches of the board",
        0x15B3,
        frozenset({0x1021}),
        b"SW_MNG",
    ),
)
PRODUCT_DATA_BYTES = 1024
"""How much of it is read: reading is slow, and the markers stand in front."""


def list_rows(
    vendor_id: int, product_id: int, class_code: int
) -> Iterator[Row]:
    """Yield the rows that a function belongs to."""
    for row in _ROWS:
        if (
            row.vendor_id in (None, vendor_id)
            and (not row.product_ids or product_id in row.product_ids)
            and row.base_class in (None, class_code >> 16, class_code >> 8)
        ):
            yield row


def find_processor(
    address: PciAddress, vendor_id: int, product_id: int
) -> OfProcessor | None:
    """Find whose graphics a display is, whatever uses it; None: a card's."""
    for row in _OF_PROCESSORS:
        if (
            row.vendor_id == vendor_id
            and (not row.product_ids or product_id in row.product_ids)
            and row.address in (None, address)
        ):
            return row
    return None
