# SPDX-License-Identifier: Apache-2.0

"""Reads which GPUs are in MIG mode, of what nvidia-smi prints.

Source: ``nvidia-smi --help-query-gpu`` (``mig.mode.current`` is Enabled,
Disabled or [N/A]; ``pci.bus_id`` has a domain of 8 digits).
"""

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress

ARGUMENTS = (
    "--query-gpu=pci.bus_id,mig.mode.current",
    "--format=csv,noheader",
)
_MODES = {"enabled": True, "disabled": False}


def parse(text: str) -> dict[PciAddress, bool | None]:
    """Read the modes, keyed by GPU; None: it has no MIG mode."""
    modes = {}
    for line in text.splitlines():
        name, _, mode = line.partition(",")
        address = address_lib.find(name.strip())
        if address is not None:
            modes[address] = _MODES.get(mode.strip().lower())
    return modes
