# SPDX-License-Identifier: Apache-2.0

"""PCI addresses, in each of the forms that tools print."""

import dataclasses
import functools
import re

# The domain has 4 digits in sysfs and lspci, more where it needs them (Intel
# VMD and Hyper-V count from 10000), and always 8 in nvidia-smi.
_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-fA-F]{4,8}):)?"
    r"(?P<bus>[0-9a-fA-F]{2}):(?P<slot>[0-9a-fA-F]{2})\.(?P<function>[0-7])",
    re.ASCII,
)

DEVICES = "/sys/bus/pci/devices"
MAX_NOVA_DOMAIN = 0xFFFF
"""Nova takes no device beyond it (``MAX_DOMAIN`` of nova/pci/devspec.py)."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """Where a function is; ordered as the kernel and nvidia-smi order."""

    domain: int
    bus: int
    slot: int
    function: int

    @staticmethod
    def parse(text: str) -> "PciAddress":
        """Read ``0000:85:00.0``, ``85:00.0`` or ``00000000:85:00.0``.

        :raises ValueError: for any other text.
        """
        address = find(text)
        if address is None:
            raise ValueError(f"'{text}' is not a PCI address")
        return address

    def __str__(self) -> str:
        return (
            f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}"
            f".{self.function:x}"
        )

    @property
    def short(self) -> str:
        """The address without its domain, as lspci prints it."""
        return f"{self.bus:02x}:{self.slot:02x}.{self.function:x}"

    @property
    def path(self) -> str:
        """The directory of the function in sysfs."""
        return f"{DEVICES}/{self}"

    @property
    def card(self) -> tuple[int, int, int]:
        """Domain, bus and slot: the same for all functions of one card."""
        return (self.domain, self.bus, self.slot)

    @property
    def card_text(self) -> str:
        """The address without its function: ``0000:85:00``."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}"


@functools.lru_cache(maxsize=8192)
def find(text: str) -> PciAddress | None:
    """Read an address where there may be none."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    slot = int(match["slot"], 16)
    if slot > 0x1F:
        return None
    return PciAddress(
        domain=int(match["domain"] or "0", 16),
        bus=int(match["bus"], 16),
        slot=slot,
        function=int(match["function"]),
    )
