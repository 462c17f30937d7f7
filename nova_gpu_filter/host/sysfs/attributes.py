# SPDX-License-Identifier: Apache-2.0

"""What single files of a device in sysfs say.

Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci.
"""

import re

from nova_gpu_filter.host.inventory import Bar

# include/linux/ioport.h
_IORESOURCE_MEM = 0x200
_IORESOURCE_PREFETCH = 0x2000
_IORESOURCE_MEM_64 = 0x100000
_STANDARD_BARS = 6
MAX_NODES = 1 << 10
"""NODES_SHIFT is at most 10 (arch/*/Kconfig of the kernel)."""


def parse_node_list(text: str | None) -> tuple[int, ...]:
    """Read a list of the kernel: ``0-1,4`` is (0, 1, 4).

    :raises ValueError: there are more than Linux can have.
    """
    nodes: set[int] = set()
    for part in (text or "").split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            if last >= MAX_NODES:
                raise ValueError(
                    f"{last} is above {MAX_NODES - 1}, the last NUMA node"
                    " that Linux can have"
                )
            nodes.update(range(first, last + 1))
    return tuple(sorted(nodes))


def parse_hexadecimal(text: str | None) -> int | None:
    """Read a number of ``sriov_vf_device``, which bears no ``0x``."""
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def parse_bars(text: str | None) -> tuple[Bar, ...]:
    """Read the first six lines of ``resource``: start, end and flags.

    The ROM, the VFs' BARs and the windows of bridges come after them. Ports
    (I/O BARs) take no memory address space, and are left out.
    """
    bars = []
    for index, line in enumerate((text or "").splitlines()[:_STANDARD_BARS]):
        try:
            start, end, flags = (int(field, 16) for field in line.split())
        except ValueError:
            continue
        if flags & _IORESOURCE_MEM and end > start:
            bars.append(
                Bar(
                    index=index,
                    size=end - start + 1,
                    is_64bit=bool(flags & _IORESOURCE_MEM_64),
                    is_prefetchable=bool(flags & _IORESOURCE_PREFETCH),
                )
            )
    return tuple(bars)


def parse_reset_methods(
    text: str | None, files: frozenset[str]
) -> tuple[str, ...] | None:
    """Read how the kernel can reset the device.

    ``reset_method`` came with Linux 5.15; before, the file ``reset`` tells
    only that there is a way.
    """
    if text is not None:
        return tuple(text.split())
    if "reset" in files:
        return ("unknown",)
    # A sysfs that shows what every device has shows also this.
    return () if "remove" in files or "rescan" in files else None
