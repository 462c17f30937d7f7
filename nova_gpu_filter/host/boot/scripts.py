# SPDX-License-Identifier: Apache-2.0

"""Programs that give a device to vfio-pci at boot.

Sources: systemd.unit(5) and systemd.service(5), initramfs-tools(7) (boot
scripts), modprobe.d(5) (install).
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import re

from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.sysfs import tree as tree_lib

UNITS = "/etc/systemd/system"
UNIT_PLACES = (UNITS, "/usr/local/lib/systemd/system")

RC_LOCAL = ("/etc/rc.local", "/etc/rc.d/rc.local")
"""Run at the end of booting (systemd-rc-local-generator(8))."""

_BINDS = re.compile(r"driver_override|vfio[-_]pci/(bind|new_id)|driverctl")
# A unit that comes after udev has to take the device from its driver.
_TAKES = re.compile(r"unbind|driverctl")
_BEFORE_DRIVERS = re.compile(r"^Before=.*(udev|modules-load)", re.M)


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """A program that runs at boot, and its text."""

    path: str
    text: str
    takes_from_drivers: bool
    """Whether it works also where a driver has the device already."""

    def _takes_all_but_console(self, function: Function) -> bool:
        """Tell whether it goes by boot_vga, and this is a card for guests.

        The script of Arch Linux's "PCI passthrough via OVMF" is one.
        """
        return (
            "boot_vga" in self.text
            and "driver_override" in self.text
            and function.kind in (Kind.GPU, Kind.FUNCTION)
            and not function.is_boot_display
        )

    def binds(self, function: Function) -> bool:
        """Tell whether it names a device: by its address or its ids."""
        ids = f"{function.vendor_id:04x}[ :]{function.product_id:04x}"
        return bool(_BINDS.search(self.text)) and (
            str(function.address) in self.text
            or self._takes_all_but_console(function)
            or (
                bool(re.search(r"new_id", self.text))
                and bool(re.search(ids, self.text, re.I))
            )
        )


def installs(
    tree: tree_lib.Tree, lines: Iterable[Sequence[str]], module: str
) -> Iterator[Script]:
    """Yield the programs that modprobe runs in the place of a module.

    :param lines: the words of each line of modprobe.d.
    """
    for words in lines:
        if words[0] == "install" and words[1].replace("-", "_") == module:
            for path in words[2:]:
                text = strip_comments(tree.read(path) or "")
                if path.startswith("/") and _BINDS.search(text):
                    yield Script(path, text, bool(_TAKES.search(text)))


def read(tree: tree_lib.Tree) -> Iterator[Script]:
    """Yield the boot scripts and enabled units that bind a device."""
    for place in initramfs.SCRIPTS:
        for name in tree.list_entries(place):
            path = f"{place}/{name}"
            text = strip_comments(tree.read(path) or "")
            if _BINDS.search(text):
                yield Script(path, text, bool(_TAKES.search(text)))
    for path in filter(tree.is_executable, RC_LOCAL):
        text = strip_comments(tree.read(path) or "")
        if _BINDS.search(text) and _TAKES.search(text):
            yield Script(path, text, True)
    on = list_enabled(tree)
    for place in UNIT_PLACES:
        for name in tree.list_entries(place):
            if name in on and name.endswith(".service"):
                yield from _read_unit(tree, f"{place}/{name}")


def list_enabled(tree: tree_lib.Tree) -> dict[str, str]:
    """List the units that start at boot, and the links that say so."""
    return {
        name: f"{UNITS}/{folder}/{name}"
        for folder in tree.list_entries(UNITS)
        if folder.endswith((".wants", ".requires"))
        for name in tree.list_entries(f"{UNITS}/{folder}")
    }


def _read_unit(tree: tree_lib.Tree, path: str) -> Iterator[Script]:
    unit = strip_comments(tree.read(path) or "")
    text = "\n".join(
        [
            unit,
            *(
                strip_comments(tree.read(one) or "")
                for one in list_programs(unit)
            ),
        ]
    )
    takes = bool(_TAKES.search(text))
    if _BINDS.search(text) and (takes or is_before_drivers(unit)):
        yield Script(path, text, takes)


def is_before_drivers(unit: str) -> bool:
    """Tell whether a unit runs before modules are loaded for devices."""
    return _BEFORE_DRIVERS.search(unit) is not None


def list_programs(unit: str) -> tuple[str, ...]:
    """List the files that a unit runs."""
    return tuple(
        word
        for line in unit.splitlines()
        if line.startswith(("ExecStart=", "ExecStartPre="))
        for word in re.findall(r"(?<![\w.])/[\w./-]+", line)
        if not word.startswith(("/sys/", "/dev/", "/bin/", "/usr/bin/"))
    )


def strip_comments(text: str) -> str:
    """Leave out the lines that are comments."""
    return "\n".join(
        line
        for line in text.splitlines()
        if not line.lstrip().startswith(("#", ";"))
    )
