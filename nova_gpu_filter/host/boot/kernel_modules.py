# SPDX-License-Identifier: Apache-2.0

"""Which modules the kernel has built in, and which claim a device.

Sources: the kernel's Documentation/kbuild/kbuild.rst (modules.builtin) and
depmod(8) (modules.alias).
"""

import fnmatch
import functools
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot.kernel_arguments import normalize_module_name
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

VFIO = "vfio_pci"


class KernelModules:
    """The lists of modules of the running kernel."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def builtin(self) -> tuple[str, ...]:
        """Modules that are built into the kernel, in the order of starting.

        ``modules.builtin`` is in the order of linking (Documentation/kbuild/
        kbuild.rst), in which the kernel starts its drivers.
        """
        text = self._read_list("modules.builtin") or ""
        return tuple(
            map(normalize_module_name, re.findall(r"([\w-]+)\.ko", text))
        )

    def _read_list(self, name: str) -> str | None:
        """Read a list of the running kernel; None: it is not there."""
        release = self._tree.read(paths.RELEASE)
        for folder in paths.KERNEL_MODULES:
            data = self._tree.read_bytes(
                f"{folder}/{release}/{name}", 16 << 20
            )
            if data is not None:
                return data.decode("utf-8", "replace")
        return None

    def is_builtin(self, module: str) -> bool:
        """Tell whether a module is part of the kernel."""
        return normalize_module_name(module) in self.builtin

    @functools.cached_property
    def _aliases(self) -> tuple[tuple[str, str], ...] | None:
        text = self._read_list("modules.alias")
        if text is None:
            return None
        pattern = r"^alias (pci:\S+) ([A-Za-z0-9_-]+)$"
        return tuple(re.findall(pattern, text, re.MULTILINE))

    def list_candidates(self, function: Function) -> tuple[str, ...]:
        """List the modules that claim a device, vfio-pci left out.

        Without ``modules.alias`` it is those that are usual for the vendor.
        """
        if self._aliases is None or function.modalias is None:
            return _MODULES_OF_CLASS.get(
                function.base_class
            ) or _MODULES_OF_VENDOR.get(function.vendor_id, ())
        vendor = f"pci:v{function.vendor_id:08X}"
        found = {
            normalize_module_name(module)
            for pattern, module in self._aliases
            if pattern.startswith((vendor, "pci:v*"))
            and fnmatch.fnmatchcase(function.modalias, pattern)
        }
        return tuple(sorted(found - {VFIO}))


# By base class; the others are known by the vendor.
_MODULES_OF_CLASS = {
    0x0403: ("snd_hda_intel",),
    0x0C03: ("xhci_pci",),
    0x0C80: ("i2c_nvidia_gpu",),
}
_MODULES_OF_VENDOR: dict[int, tuple[str, ...]] = {
    0x10DE: ("nouveau", "nvidia", "nvidiafb"),
    0x1002: ("amdgpu", "radeon"),
    0x8086: ("i915", "xe"),
    0x15B3: ("mlx5_core",),
}
