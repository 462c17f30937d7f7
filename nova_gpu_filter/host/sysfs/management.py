# SPDX-License-Identifier: Apache-2.0

"""Devices by which a board manages itself, known by their ids.

Sources: the PCI ids of the kernel's drivers, one line each.
"""

import dataclasses


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


def _collect_ids(*ids: int) -> frozenset[int]:
    return frozenset(ids)


_ANY = _collect_ids()

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
        _collect_ids(0x3306, 0x3307),
        None,
        "drivers/misc/hpilo.c, drivers/watchdog/hpwdt.c",
    ),
    Row(
        "iLO channel",
        0x0E11,
        _collect_ids(0xB203, 0xB204),
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
        _collect_ids(0x1021),
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
