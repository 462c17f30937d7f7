# SPDX-License-Identifier: Apache-2.0

"""Whether the BARs of its devices fit into the address space of a guest."""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Final

from nova_gpu_filter import sizes
from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.severity import Severity

DEFAULT_BITS: Final = 40
"""Width that QEMU gives a guest unless told (TCG_PHYS_ADDR_BITS in
target/i386/cpu.h); Nova's spec libvirt-maxphysaddr-support says the same."""

_LARGE: Final = 4 << 30
_CLASSIC: Final = 32 << 30
_MOST_BITS: Final = 52
"""Of x86-64."""


@dataclasses.dataclass(frozen=True)
class Product:
    """What the inventory of a host says of a device."""

    name: str | None
    bar_bytes: int


def count_needed_bits(bar_bytes: int, ram_bytes: int) -> int:
    """Return the least address width with which a guest can map its devices.

    By OvmfPkg/Library/PlatformInitLib/MemDetect.c of edk2, the UEFI firmware
    of guests: it keeps 32 GiB above the memory for 64-bit BARs, or the last
    eighth of the address space where it believes the width that it is shown,
    which is from 41 bits on (QEMU's default of 40 tells nothing of the CPU).
    """
    for bits in range(36, _MOST_BITS):
        space = 1 << bits
        if bar_bytes <= _CLASSIC and ram_bytes + _CLASSIC <= space:
            return bits
        window = space >> 3
        if (
            bits > DEFAULT_BITS
            and bar_bytes <= window
            and ram_bytes < space - window
        ):
            return bits
    return _MOST_BITS


def find_problems(
    bar_bytes: int,
    ram_bytes: int,
    specs: Mapping[str, str],
    image: Mapping[str, str] | None,
) -> Iterator[FlavorProblem]:
    """Find what is wrong.

    :param bar_bytes: of all devices of the guest.
    :param image: properties of the image; None if it is not known.
    """
    if bar_bytes < _LARGE:
        return
    mode, bits = (
        specs.get(f"hw:maxphysaddr_{name}")
        or (image or {}).get(f"hw_maxphysaddr_{name}")
        for name in ("mode", "bits")
    )
    needed = count_needed_bits(bar_bytes, ram_bytes)
    takes = (
        f"the BARs of its devices take {sizes.format_size(bar_bytes)} beside"
        f" {sizes.format_size(ram_bytes)} of memory, which needs {needed} bits"
    )
    if mode == "passthrough" and not bits:
        yield FlavorProblem(
            Severity.NOTE,
            "hw:maxphysaddr_mode",
            f"{takes}; with passthrough guests have those of the host's CPU",
        )
    else:
        there = int(bits) if bits and bits.isdigit() else DEFAULT_BITS
        if there < needed:
            yield FlavorProblem(
                Severity.ERROR if mode else Severity.WARNING,
                "hw:maxphysaddr_bits" if bits else "hw:maxphysaddr_mode",
                f"{takes}; guests have {there}"
                + ("" if bits else " as a rule")
                + ": set hw:maxphysaddr_mode=passthrough, or emulate with"
                f" hw:maxphysaddr_bits={needed}",
            )
    if image is None:
        yield FlavorProblem(
            Severity.NOTE,
            "hw_firmware_type",
            "give the image with --image to check its firmware and machine"
            " type: large BARs need uefi and q35",
        )
        return
    for key, wanted, why in (
        ("hw_firmware_type", "uefi", "a BIOS may leave large BARs unmapped"),
        ("hw_machine_type", "q35", "PCI Express is not there otherwise"),
    ):
        value = image.get(key)
        if value is None or wanted not in value:
            yield FlavorProblem(
                Severity.WARNING,
                key,
                f"{value or 'not set'}: set {wanted} on the image; {why}",
            )
