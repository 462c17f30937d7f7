# SPDX-License-Identifier: Apache-2.0

"""Reads the confidential computing mode of GPUs from what was saved of it.

sysfs does not show it: it is in registers of the GPU. Forms: NVIDIA's
gpu-admin-tools (``nvidia_gpu_tools.py`` with ``--query-cc-mode``,
``--query-ppcie-mode`` or ``--query-cc-settings``; texts as in
NVIDIA/gpu-admin-tools#13, nvtrust#33 and nvtrust#55) and
``nvidia-smi conf-compute -q`` or ``-f``.
"""

from collections.abc import Mapping
import dataclasses
import re

from nova_gpu_filter import exception
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.address import PciAddress

CAPTURED = "/nova-gpu-host/nvidia-cc.txt"
"""Where a capture keeps the output."""

OFF = "off"
_ON = "on"
_DEVTOOLS = "devtools"
PROTECTED_PCIE = "ppcie"
"""Protected PCIe: GPUs and NVSwitches of Hopper in one guest."""

_DEVICE = (
    r"\b(?P<address>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])\b"
)
_MODE = re.compile(
    _DEVICE + r".*\b(?P<kind>CC|PPCIe) mode (?:is )?"
    r"(?P<mode>on|off|devtools|invalid[\w-]*)\b",
    re.IGNORECASE,
)
_PENDING = re.compile(
    _DEVICE
    + r".*\b(?P<kind>CC|PPCIe) mode set to (?P<mode>on|off|devtools)\b",
    re.IGNORECASE,
)
_APPLIED = re.compile(
    _DEVICE + r".*was reset to apply the new (?:CC|PPCIe) mode", re.IGNORECASE
)
_SETTINGS = re.compile(_DEVICE + r".*\bCC settings:", re.IGNORECASE)
_SETTING = re.compile(r"\benable(?P<tools>-devtools)? = (?P<value>[01])\s*$")
_SYSTEM = re.compile(
    r"^\s*CC (?:status|State|Feature)\s*:\s*(?P<mode>ON|OFF)\b",
    re.IGNORECASE | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Modes:
    """Modes of devices: ``off``, ``on``, ``devtools``, ``ppcie``."""

    source: str
    by_address: Mapping[PciAddress, str]
    of_all: str | None = None
    """What nvidia-smi says of all GPUs that its driver has."""

    def get_mode(self, address: PciAddress) -> str | None:
        """Give the mode of a device; None: it is not known."""
        return self.by_address.get(address, self.of_all)


def parse(source: str, text: str) -> Modes:
    """Read a saved output.

    :param source: what error messages call it, for example its path.
    :raises BadInput: it names no mode.
    """
    found: dict[PciAddress, str] = {}
    pending: dict[PciAddress, str] = {}
    settings: PciAddress | None = None
    for line in printed.split_lines(text):
        if match := _MODE.search(line):
            _note(found, match)
        elif match := _PENDING.search(line):
            _note(pending, match)
        elif match := _APPLIED.search(line):
            address = _parse_address(match)
            if address in pending:
                found[address] = pending[address]
        elif match := _SETTINGS.search(line):
            settings = _parse_address(match)
        elif settings is not None and (match := _SETTING.search(line)):
            is_on = match["value"] == "1"
            if not match["tools"]:
                found[settings] = _ON if is_on else OFF
            elif is_on and found.get(settings) == _ON:
                found[settings] = _DEVTOOLS
    system = _SYSTEM.search(text)
    if not found and system is None:
        raise exception.BadInput(
            source=source,
            reason="it names no mode: save all of the output of"
            " 'nvidia_gpu_tools.py --devices gpus --query-cc-mode' or of"
            " 'nvidia-smi conf-compute -q'",
        )
    return Modes(source, found, system["mode"].lower() if system else None)


def write(modes: Modes) -> str:
    """Write modes as NVIDIA's tool prints them."""
    lines = [] if modes.of_all is None else [f"CC status: {modes.of_all}"]
    for address, mode in sorted(modes.by_address.items()):
        kind, mode = ("PPCIe", _ON) if mode == PROTECTED_PCIE else ("CC", mode)
        lines.append(f"GPU {address} {kind} mode is {mode}")
    return printed.join_lines(lines)


def _parse_address(match: re.Match[str]) -> PciAddress:
    return PciAddress.parse(match["address"])


def _note(found: dict[PciAddress, str], match: re.Match[str]) -> None:
    """Keep what a line says; protected PCIe is said beside the CC mode."""
    address = _parse_address(match)
    mode = match["mode"].lower()
    if match["kind"].lower() == "cc":
        if found.get(address) != PROTECTED_PCIE or mode != OFF:
            found[address] = mode
    elif mode == _ON:
        found[address] = PROTECTED_PCIE
    elif found.get(address) in (None, PROTECTED_PCIE):
        found[address] = OFF
