# SPDX-License-Identifier: Apache-2.0

"""Devices by which a board manages itself, known by their ids.

Sources: the PCI ids of the kernel's drivers, one line each.
"""

import dataclasses

_DISPLAY = 0x03


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Ids, and what has them."""

    name: str
    vendor_id: int | None
    product_ids: frozenset[int]
    """Empty: any."""
    base_class: int | None
    """Class (``0x03``) or class and subclass (``0x0c07``); None: any."""
    source: str


def _ids(*ids: int) -> frozenset[int]:
    return frozenset(ids)


_ANY = _ids()

GRAPHICS = (
    Row("ASPEED", 0x1A03, _ANY, _DISPLAY, "drivers/gpu/drm/ast/ast_drv.c"),
    Row(
        "Matrox G200",
        0x102B,
        _ids(
            *(0x0520, 0x0521, 0x0522, 0x0524, 0x0530, 0x0532),
            *(0x0533, 0x0534, 0x0536, 0x0538, 0x053A),
        ),
        _DISPLAY,
        "drivers/gpu/drm/mgag200/mgag200_drv.c",
    ),
    Row(
        "HiSilicon Hi171x",
        0x19E5,
        _ids(0x1711),
        _DISPLAY,
        "drivers/gpu/drm/hisilicon/hibmc/hibmc_drm_drv.c",
    ),
    Row(
        "XGI Volari",
        0x18CA,
        _ANY,
        _DISPLAY,
        "drivers/video/fbdev/sis/sis_main.h; pci.ids 18ca",
    ),
    Row(
        "Silicon Motion",
        0x126F,
        _ANY,
        _DISPLAY,
        "drivers/video/fbdev/sm712fb.c, drivers/staging/sm750fb/sm750.c",
    ),
    Row(
        "ATI ES1000 or Rage XL",
        0x1002,
        _ids(0x4752, 0x515E, 0x5969),
        _DISPLAY,
        "include/drm/drm_pciids.h (RV100), drivers/video/fbdev/aty"
        " (Rage XL); pci.ids names ES1000",
    ),
)
"""Graphics of a BMC: a frame buffer for its remote console, no GPU."""

FUNCTIONS = (
    Row(
        "IPMI interface",
        None,
        _ANY,
        0x0C07,
        "PCI Code and ID Assignment Specification 1.15, 0c07h;"
        " drivers/char/ipmi/ipmi_si_pci.c",
    ),
    Row(
        "iLO channel",
        0x103C,
        _ids(0x3306, 0x3307),
        None,
        "drivers/misc/hpilo.c, drivers/watchdog/hpwdt.c",
    ),
    Row(
        "iLO channel",
        0x0E11,
        _ids(0xB203, 0xB204),
        None,
        "drivers/misc/hpilo.c, drivers/watchdog/hpwdt.c",
    ),
)
"""Channels between a host and its BMC."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProductData:
    """What a device's vital product data says of its use."""

    name: str
    vendor_id: int
    product_ids: frozenset[int]
    marker: bytes
    source: str


BY_PRODUCT_DATA = (
    ProductData(
        "it manages the NVSwitches of the board",
        0x15B3,
        _ids(0x1021),
        b"SW_MNG",
        "NVIDIA's Fabric Manager User Guide, NVLink Subnet Manager: the"
        " ConnectX-7 whose VPD has SMDL=SW_MNG",
    ),
)
PRODUCT_DATA_BYTES = 1024
"""How much of it is read: reading is slow, and the markers stand in front."""


def find(
    rows: tuple[Row, ...], vendor_id: int, product_id: int, class_code: int
) -> Row | None:
    """Find the row that a device belongs to."""
    for row in rows:
        if (
            row.vendor_id in (None, vendor_id)
            and (not row.product_ids or product_id in row.product_ids)
            and row.base_class in (None, class_code >> 16, class_code >> 8)
        ):
            return row
    return None
