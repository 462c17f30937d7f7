# SPDX-License-Identifier: Apache-2.0

"""What the files ``config`` and ``resource`` of a PCI device say.

Sources: include/uapi/linux/pci_regs.h (the header of a device's
configuration space), include/linux/ioport.h (flags of resources) and
drivers/pci/setup-res.c (what becomes of a BAR that gets no address).
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.host.inventory import Bar

HEADER_BYTES = 64
"""What sysfs gives everybody; the rest is for root."""

_HEADER_TYPE = 0x0E
_HEADER_MASK = 0x7F
_FIRST_BAR = 0x10
_BARS = 6
_SPACE_IO = 0x1
_TYPE_64 = 0x4
_TYPE_BITS = 0xC
"""64-bit and prefetchable: they stay when a BAR has no address."""

_MEM = 0x200
_PREFETCH = 0x2000
_MEM_64 = 0x100000
_DISABLED = 0x10000000
_UNSET = 0x20000000

# What reads come back as where no device answers
# (pci_bus_generic_read_dev_vendor_id in drivers/pci/probe.c).
_NOBODY = frozenset({0xFFFFFFFF, 0x00000000, 0x0000FFFF, 0xFFFF0000})


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """A line of ``resource``."""

    index: int
    start: int
    end: int
    flags: int

    @property
    def is_memory(self) -> bool:
        """Whether it is memory, and no I/O ports."""
        return bool(self.flags & _MEM)

    def __str__(self) -> str:
        return f"0x{self.start:016x} 0x{self.end:016x} 0x{self.flags:016x}"


def read_resources(
    text: str | None, most: int | None = None
) -> tuple[Resource, ...]:
    """Read the lines of ``resource``; one that cannot be read is left out.

    0 to 5 are the BARs, 6 the ROM, 7 to 12 the BARs of VFs.

    :param most: how many lines are read; None: all.
    """
    found = []
    for index, line in enumerate((text or "").splitlines()[:most]):
        try:
            start, end, flags = (int(field, 16) for field in line.split())
        except ValueError:
            continue
        found.append(Resource(index, start, end, flags))
    return tuple(found)


def list_bars(text: str | None) -> tuple[Bar, ...]:
    """List the memory BARs of ``resource``.

    Ports (I/O BARs) take no memory address space, and are left out.
    """
    return tuple(
        Bar(
            index=one.index,
            size=one.end - one.start + 1,
            is_64bit=bool(one.flags & _MEM_64),
            is_prefetchable=bool(one.flags & _PREFETCH),
        )
        for one in read_resources(text, _BARS)
        if one.is_memory and one.end > one.start
    )


def silence(config: bytes, vendor: int, product: int) -> str | None:
    """Tell by its configuration space that a physical device is dead.

    :param vendor: what the kernel has read when it found the device.
    :returns: what is wrong; None if the device answers.
    """
    if len(config) < HEADER_BYTES:
        return f"{len(config)} of {HEADER_BYTES} bytes can be read"
    ids = int.from_bytes(config[:4], "little")
    if ids in _NOBODY or config[:HEADER_BYTES] == b"\xff" * HEADER_BYTES:
        return f"it reads {config[:4].hex(' ')}"
    if config[_HEADER_TYPE] & _HEADER_MASK == _HEADER_MASK:
        return f"its header type reads {config[_HEADER_TYPE]:02x}"
    if ids != product << 16 | vendor:
        return f"it has the ids {ids & 0xFFFF:04x}:{ids >> 16:04x}"
    return None


def list_unassigned_bars(
    text: str | None, config: bytes | None
) -> Iterator[tuple[int, str]]:
    """Yield the memory BARs that have no address: (number, what is seen).

    The kernel keeps the size of such a BAR and sets a flag, or forgets the
    BAR altogether; then its type is still in the configuration space.
    """
    upper_half = -1
    for resource in read_resources(text, _BARS):
        if resource.index == upper_half and not resource.flags:
            continue
        register = _register(config, resource.index)
        is_64bit = resource.flags & _MEM_64 or (
            not register & _SPACE_IO and register & _TYPE_64
        )
        if is_64bit:
            upper_half = resource.index + 1
        if resource.is_memory and _is_unassigned(resource):
            yield resource.index, str(resource)
        elif not resource.flags and (
            register & _TYPE_BITS and not register & _SPACE_IO
        ):
            yield (
                resource.index,
                f"{resource}, but its register reads 0x{register:08x}",
            )


def list_unassigned_vf_bars(text: str | None) -> tuple[Resource, ...]:
    """List the BARs of VFs that have no address."""
    return tuple(
        resource
        for resource in read_resources(text)[_BARS + 1 : 2 * _BARS + 1]
        if resource.is_memory and _is_unassigned(resource)
    )


def _is_unassigned(resource: Resource) -> bool:
    return bool(
        resource.flags & (_UNSET | _DISABLED)
        or not resource.start
        or resource.end <= resource.start
    )


def _register(config: bytes | None, index: int) -> int:
    at = _FIRST_BAR + 4 * index
    if config is None or len(config) < at + 4:
        return 0
    value = int.from_bytes(config[at : at + 4], "little")
    return 0 if value == 0xFFFFFFFF else value
