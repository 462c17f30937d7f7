# SPDX-License-Identifier: Apache-2.0

"""Ids that vfio-pci is told to take.

Source: the kernel's drivers/vfio/pci/vfio_pci.c (the parameter ``ids``:
``vendor:device[:subvendor[:subdevice[:class[:class_mask]]]]``) and
drivers/pci/pci.h (pci_match_one_device).
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.inventory import Function

_ANY = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True, slots=True)
class VfioId:
    """One entry: numbers, of which ``ffffffff`` is any."""

    vendor_id: int
    product_id: int
    subvendor_id: int = _ANY
    subproduct_id: int = _ANY
    class_code: int = 0
    class_mask: int = 0

    def matches(self, function: Function) -> bool:
        """Tell whether vfio-pci takes a device by it."""
        return all(
            wanted in (_ANY, has)
            for wanted, has in (
                (self.vendor_id, function.vendor_id),
                (self.product_id, function.product_id),
                (self.subvendor_id, function.subvendor_id),
                (self.subproduct_id, function.subproduct_id),
            )
        ) and not ((self.class_code ^ function.class_code) & self.class_mask)


@dataclasses.dataclass(frozen=True, slots=True)
class IdSetting:
    """Ids that vfio-pci is told to take, and where that is written."""

    ids: tuple[VfioId, ...]
    evidence: Evidence

    def matches(self, function: Function) -> bool:
        """Tell whether a device is among them."""
        return any(entry.matches(function) for entry in self.ids)


def parse(text: str) -> Iterator[VfioId]:
    """Read the value of the parameter; what the kernel skips is skipped."""
    for entry in text.strip().strip('"').split(","):
        try:
            numbers = [int(part, 16) for part in entry.split(":")]
        except ValueError:
            continue
        if 2 <= len(numbers) <= 6:
            yield VfioId(*numbers)
