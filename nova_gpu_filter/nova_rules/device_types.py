# SPDX-License-Identifier: Apache-2.0

"""Types of PCI devices: ``PciDeviceType`` of nova/objects/fields.py."""

from typing import Final

PCI: Final = "type-PCI"
"""A device that has no VFs."""
PF: Final = "type-PF"
"""One that can have VFs."""
VF: Final = "type-VF"
VDPA: Final = "vdpa"
