# SPDX-License-Identifier: Apache-2.0

"""What gives single devices to a driver of VFIO at boot.

driverctl, rules of udev and programs name a device by its address or ids, and
set its driver_override or bind it.

Sources: driverctl(8), udev(7), systemd.unit(5) and systemd.service(5),
initramfs-tools(7) (boot scripts), modprobe.d(5) (install).
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import fnmatch
import functools
import re

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.boot import modprobe
from nova_gpu_filter.host.boot.kernel import VFIO
from nova_gpu_filter.host.boot.kernel import normalize_module_name
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.sysfs import tree as tree_lib

DRIVERCTL = "/etc/driverctl.d"
UDEV_PLACES = (
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
)
UNITS = "/etc/systemd/system"
UNIT_PLACES = (UNITS, "/usr/local/lib/systemd/system")
RC_LOCAL = ("/etc/rc.local", "/etc/rc.d/rc.local")
"""Run at the end of booting (systemd-rc-local-generator(8))."""

_BINDS = re.compile(r"driver_override|vfio[-_]pci/(bind|new_id)|driverctl")
# A unit that comes after udev has to take the device from its driver.
_TAKES = re.compile(r"unbind|driverctl")
_BEFORE_DRIVERS = re.compile(r"^Before=.*(udev|modules-load)", re.M)


def name_driverctl_file(function: Function) -> str:
    """Name the file in which driverctl has the driver of a device."""
    return f"{DRIVERCTL}/pci-{function.address}"


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """A program that binds devices at boot, and its text."""

    path: str
    text: str

    @property
    def takes_from_drivers(self) -> bool:
        """Whether it works also where a driver has the device already."""
        return _TAKES.search(self.text) is not None

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
        return (
            str(function.address) in self.text
            or self._takes_all_but_console(function)
            or (
                "new_id" in self.text
                and re.search(ids, self.text, re.I) is not None
            )
        )


def _read_programs(
    tree: tree_lib.Tree, paths: Iterable[str]
) -> Iterator[Script]:
    for path in paths:
        text = strip_comments(tree.read(path) or "")
        if _BINDS.search(text):
            yield Script(path, text)


def read_scripts(tree: tree_lib.Tree) -> Iterator[Script]:
    """Yield the boot scripts and enabled units that bind a device."""
    yield from _read_programs(
        tree,
        (
            f"{place}/{name}"
            for place in initramfs.SCRIPTS
            for name in tree.list_entries(place)
        ),
    )
    for script in _read_programs(tree, filter(tree.is_executable, RC_LOCAL)):
        if script.takes_from_drivers:
            yield script
    enabled = list_enabled(tree)
    for place in UNIT_PLACES:
        for name in tree.list_entries(place):
            if name in enabled and name.endswith(".service"):
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
    """Yield a unit with the programs that it runs, as one text."""
    unit = strip_comments(tree.read(path) or "")
    programs = [
        word
        for line in unit.splitlines()
        if line.startswith(("ExecStart=", "ExecStartPre="))
        for word in re.findall(r"(?<![\w.])/[\w./-]+", line)
        if not word.startswith(("/sys/", "/dev/", "/bin/", "/usr/bin/"))
    ]
    texts = [strip_comments(tree.read(one) or "") for one in programs]
    script = Script(path, "\n".join([unit, *texts]))
    if _BINDS.search(script.text) and (
        script.takes_from_drivers or is_before_drivers(unit)
    ):
        yield script


def is_before_drivers(unit: str) -> bool:
    """Tell whether a unit runs before modules are loaded for devices."""
    return _BEFORE_DRIVERS.search(unit) is not None


def strip_comments(text: str) -> str:
    """Leave out the lines that are comments."""
    return "\n".join(
        line
        for line in text.splitlines()
        if not line.lstrip().startswith(("#", ";"))
    )


def _read_rules(tree: tree_lib.Tree) -> Iterator[Evidence]:
    """Yield the rules of udev that set driver_override to vfio-pci."""
    for place in UDEV_PLACES:
        for name in tree.list_entries(place):
            path = f"{place}/{name}"
            text = (tree.read(path) or "").replace("\\\n", " ")
            for line in text.splitlines():
                if (
                    "driver_override" in line
                    and re.search("vfio[-_]pci", line)
                    and not line.lstrip().startswith("#")
                ):
                    yield Evidence(path, line.strip())


def _is_rule_for(rule: str, function: Function) -> bool:
    if str(function.address) in rule:
        return True
    values = {
        "vendor": f"0x{function.vendor_id:04x}",
        "device": f"0x{function.product_id:04x}",
        "class": f"0x{function.class_code:06x}",
    }
    asked = re.findall(
        r'ATTRS?\{(vendor|device|class)\}=="([^"]*)"', rule, re.I
    )
    return {"vendor"} < {name for name, _ in asked} and all(
        any(
            fnmatch.fnmatchcase(values[name], pattern.lower())
            for pattern in patterns.split("|")
        )
        for name, patterns in asked
    )


class DriverOverrides:
    """What is set for single devices, read when it is asked for."""

    def __init__(
        self, tree: tree_lib.Tree, configuration: modprobe.Configuration
    ) -> None:
        self._tree = tree
        self._modprobe = configuration

    @functools.cached_property
    def _rules(self) -> tuple[Evidence, ...]:
        return tuple(_read_rules(self._tree))

    @functools.cached_property
    def _scripts(self) -> tuple[Script, ...]:
        return tuple(read_scripts(self._tree))

    @functools.cached_property
    def _installs(self) -> tuple[Script, ...]:
        """The programs that modprobe runs in the place of vfio-pci."""
        paths = (
            path
            for directive in self._modprobe.directives
            if directive.words[0] == "install"
            and normalize_module_name(directive.words[1]) == VFIO
            for path in directive.words[2:]
            if path.startswith("/")
        )
        return tuple(_read_programs(self._tree, paths))

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return bool(
            self._installs
            or self._rules
            or self._scripts
            or self._tree.list_entries(DRIVERCTL)
        )

    def find(self, function: Function) -> Evidence | None:
        """Find what sets driver_override to vfio-pci for a device at boot."""
        found = self.find_later(function)
        if found is not None:
            return found
        for script in self._scripts:
            if script.binds(function):
                return Evidence(script.path, str(function.address))
        for rule in self._rules:
            if _is_rule_for(rule.content or "", function):
                return rule
        return None

    def find_later(self, function: Function) -> Evidence | None:
        """Find what takes a device from any driver that has it."""
        path = name_driverctl_file(function)
        content = self._tree.read(path)
        if (
            content is not None
            and content in drivers.VFIO_DRIVERS
            and not drivers.is_misspelt(content)
        ):
            return Evidence(path, content)
        for script in self._scripts:
            if script.takes_from_drivers and script.binds(function):
                return Evidence(script.path, str(function.address))
        return None

    def find_installed(self, function: Function) -> Evidence | None:
        """Find a program that binds a device when modprobe loads vfio-pci."""
        for script in self._installs:
            if script.binds(function):
                return Evidence(script.path, "driver_override")
        return None
