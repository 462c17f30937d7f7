# SPDX-License-Identifier: Apache-2.0

"""Which PCI functions the host's console is on.

Sources, in the kernel: drivers/video/fbdev/core/fbcon.c (the console is on
fb0), drivers/firmware/sysfb.c and kernel/resource.c (BOOTFB in /proc/iomem),
Documentation/ABI/testing/sysfs-class-drm (boot_display),
Documentation/ABI/testing/sysfs-tty (active).
"""

from collections.abc import Iterator
import functools
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import tree as tree_lib

IOMEM = "/proc/iomem"
FRAME_BUFFER = "/sys/class/graphics/fb0"
DRM = "/sys/class/drm"
CONSOLES = "/sys/class/tty/console/active"

# Names of resources that a firmware's frame buffer has in /proc/iomem:
# drivers/firmware/sysfb.c, drivers/video/fbdev/{efifb,vesafb,simplefb}.c,
# drivers/gpu/drm/sysfb (simpledrm, efidrm, vesadrm).
FRAME_BUFFERS = re.compile(
    r"\b(BOOTFB|efifb|vesafb|simplefb|simpledrm|efidrm|vesadrm)\b", re.I
)

_Sign = tuple[PciAddress | None, str, str]
"""The function, the file and what it has; None: on no PCI function."""


def make_use(path: str, content: str) -> HostUse:
    """Make the use of a function that the console is on."""
    text = "the host's console is on it"
    return HostUse(Use.CONSOLE, text, path, content)


class HostConsoles:
    """The functions that the console is on, by every file for it."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def by_address(self) -> dict[PciAddress, list[HostUse]]:
        """Each sign that the console is on a function."""
        found: dict[PciAddress, list[HostUse]] = {}
        for address, path, content in (
            *self._frame_buffers(),
            *self._find_boot_displays(),
            *self._find_firmware_memory(),
            *self._find_serial_consoles(),
        ):
            if address is not None:
                found.setdefault(address, []).append(make_use(path, content))
        return found

    def _frame_buffers(self) -> Iterator[_Sign]:
        # The kernel binds its text console to the first one.
        path = FRAME_BUFFER
        address = device_paths.find_function(
            self._tree, f"{path}/device"
        ) or device_paths.find_function(self._tree, path)
        yield address, f"{path}/device", str(address)

    def _find_boot_displays(self) -> Iterator[_Sign]:
        for name in self._tree.list_entries(DRM):
            place = f"{DRM}/{name}"
            path = f"{place}/boot_display"
            if re.fullmatch(r"card\d+", name) and (
                self._tree.read(path) == "1"
            ):
                yield device_paths.find_function(self._tree, place), path, "1"

    def _find_firmware_memory(self) -> Iterator[_Sign]:
        # Addresses read as 0 without root, but a resource stands below the
        # one that it is a part of.
        above: list[tuple[int, PciAddress | None]] = []
        for line in (self._tree.read(IOMEM) or "").splitlines():
            depth = len(line) - len(line.lstrip())
            name = line.partition(" : ")[2].strip()
            while above and above[-1][0] >= depth:
                above.pop()
            if FRAME_BUFFERS.search(name):
                owners = [one for _, one in above if one is not None]
                if owners:
                    yield owners[-1], IOMEM, f"{owners[-1]} ... {name}"
            above.append((depth, address_lib.find(name)))

    def _find_serial_consoles(self) -> Iterator[_Sign]:
        for name in (self._tree.read(CONSOLES) or "").split():
            path = f"/sys/class/tty/{name}/device"
            yield device_paths.find_function(self._tree, path), CONSOLES, name
