# SPDX-License-Identifier: Apache-2.0

"""What gives single devices to a driver of VFIO at boot.

driverctl (driverctl(8)), rules of udev and programs name a device by its
address or ids, and set its driver_override or bind it.
"""

import functools

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot import modprobe
from nova_gpu_filter.host.boot import scripts
from nova_gpu_filter.host.boot import udev_rules
from nova_gpu_filter.host.boot.kernel_modules import VFIO
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

DRIVERCTL = "/etc/driverctl.d"


def name_driverctl_file(function: Function) -> str:
    """Name the file in which driverctl has the driver of a device."""
    return f"{DRIVERCTL}/pci-{function.address}"


class DriverOverrides:
    """What is set for single devices, read when it is asked for."""

    def __init__(
        self, tree: tree_lib.Tree, configuration: modprobe.Configuration
    ) -> None:
        self._tree = tree
        self._modprobe = configuration

    @functools.cached_property
    def _rules(self) -> tuple[Evidence, ...]:
        return udev_rules.read(self._tree)

    @functools.cached_property
    def _scripts(self) -> tuple[scripts.Script, ...]:
        return tuple(scripts.read(self._tree))

    @functools.cached_property
    def _installs(self) -> tuple[scripts.Script, ...]:
        lines = (directive.words for directive in self._modprobe.directives)
        return tuple(scripts.installs(self._tree, lines, VFIO))

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
            if udev_rules.matches(rule.content or "", function):
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
