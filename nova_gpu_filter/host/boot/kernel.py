# SPDX-License-Identifier: Apache-2.0

"""The kernel of a host: its parameters, and its modules.

Sources: the kernel's Documentation/admin-guide/kernel-parameters.rst,
lib/cmdline.c (next_arg) and Documentation/kbuild/kbuild.rst
(modules.builtin), and depmod(8) (modules.alias).
"""

from collections.abc import Iterator
import dataclasses
import fnmatch
import functools
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import tree as tree_lib

CMDLINE = "/proc/cmdline"
VFIO = "vfio_pci"
_ANY = 0xFFFFFFFF

# What is usual where the kernel's list is not there: by base class, else by
# the vendor.
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


def normalize_module_name(name: str) -> str:
    """Write a module as the kernel does: ``vfio-pci`` is ``vfio_pci``."""
    return name.replace("-", "_")


def split_arguments(text: str) -> list[str]:
    """Split a kernel command line into words, as they are written.

    What follows ``--`` is for init, and left out.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)
    return words[: words.index("--")] if "--" in words else words


def split(text: str) -> tuple[tuple[str, str | None], ...]:
    """Split a kernel command line into (parameter, value) pairs.

    Quotes keep spaces together; ``-`` and ``_`` are the same in names.
    """
    pairs = []
    for word in split_arguments(text):
        key, equals, value = word.replace('"', "").partition("=")
        pairs.append((normalize_module_name(key), value if equals else None))
    return tuple(pairs)


@dataclasses.dataclass(frozen=True, slots=True)
class VfioId:
    """An entry of the parameter ``ids`` of vfio-pci; ``ffffffff`` is any.

    Source: drivers/vfio/pci/vfio_pci.c
    (``vendor:device[:subvendor[:subdevice[:class[:class_mask]]]]``) and
    drivers/pci/pci.h (pci_match_one_device).
    """

    vendor_id: int
    product_id: int
    subvendor_id: int = _ANY
    subproduct_id: int = _ANY
    class_code: int = 0
    class_mask: int = 0

    def matches(self, function: Function) -> bool:
        """Tell whether vfio-pci takes a device by it."""
        return all(
            wanted in (_ANY, has)
            for wanted, has in (
                (self.vendor_id, function.vendor_id),
                (self.product_id, function.product_id),
                (self.subvendor_id, function.subvendor_id),
                (self.subproduct_id, function.subproduct_id),
            )
        ) and not ((self.class_code ^ function.class_code) & self.class_mask)


def parse_ids(text: str) -> Iterator[VfioId]:
    """Read the value of ``ids``; what the kernel skips is skipped."""
    for entry in text.strip().strip('"').split(","):
        try:
            numbers = [int(part, 16) for part in entry.split(":")]
        except ValueError:
            continue
        if 2 <= len(numbers) <= 6:
            yield VfioId(*numbers)


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
