# SPDX-License-Identifier: Apache-2.0

"""Words that a capture may hold: what is no such word is replaced.

A word is kept because we know what it is, never because it does not look
like a secret.
"""

from collections.abc import Iterable
import re

from nova_gpu_filter import printable
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot.kernel import normalize_module_name

REMOVED = "REMOVED"

ADDRESS = r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
"""A PCI address."""

# In names that the kernel, udev or an administrator gave: UUIDs, MAC
# addresses and GUIDs (systemd.net-naming-scheme(7): enx78e7d1ea46da), and the
# front of a port's UUID, by which Neutron names its interfaces.
_IDENTIFIER = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{2,4}){1,3}(?:-[0-9a-f]{12})?"
    r"|(?:[0-9a-f]{2}[:-]){5,}[0-9a-f]{2}"
    r"|(?<![0-9a-z])[0-9a-f]{10,}|(?<=enx)[0-9a-f]{12}"
    r"|(?<=[a-z]x)[0-9a-f]{12,}|[0-9a-f]{12,}",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z0-9_.:@,+~-]{1,255}")

# Modules about which the checks know something; the drivers of the host's
# devices come to them.
_MODULES = (
    *drivers.VFIO_DRIVERS,
    *drivers.DISPLAY,
    *drivers.HARMLESS,
    drivers.NVSWITCH,
    *("vfio", "vfio_iommu_type1", "vfio_iommu_spapr_tce", "vfio_pci_core"),
    *("vfio_virqfd", "drm", "mlx5_core", "snd_hda_intel", "xhci_pci"),
    *("nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia_vgpu_vfio"),
    "i2c_nvidia_gpu",
)


class Tokens:
    """The words of one host that may be kept."""

    def __init__(self) -> None:
        self.modaliases: frozenset[str] = frozenset()
        """Of the host's devices, by which modules are loaded for them."""
        self._modules = {normalize_module_name(name) for name in _MODULES}
        self.rdma_devices: set[str] = set()
        """Names of this host's."""
        self._stand_ins: dict[str, str] = {}

    def know_modules(self, names: Iterable[str]) -> None:
        """Add names of modules that drive a device of this host."""
        self._modules.update(
            normalize_module_name(name) for name in names if name
        )

    def is_module(self, word: str) -> bool:
        """Tell whether it is the name of a module that matters here."""
        return normalize_module_name(word) in self._modules

    def keep_module(self, word: str) -> str:
        """Give a module's name back, and of other words a stand-in."""
        return word if self.is_module(word) else REMOVED

    def keep_modules(self, words: Iterable[str]) -> str:
        """Give a line of module names."""
        return " ".join(map(self.keep_module, words))

    def clean_text(self, text: str) -> str:
        """Give a text of one line without UUIDs, MAC addresses and GUIDs."""
        return _IDENTIFIER.sub(
            self._get_stand_in, printable.escape(text[:200])
        )

    def clean_name(self, name: str) -> str | None:
        """Give a name without MAC addresses, UUIDs and GUIDs in it.

        Each of them has a stand-in, the same wherever it occurs.

        :returns: None if it has characters that names do not have.
        """
        if re.fullmatch(ADDRESS, name):
            return name
        if not _NAME.fullmatch(name):
            return None
        return _IDENTIFIER.sub(self._get_stand_in, name)

    def _get_stand_in(self, match: re.Match[str]) -> str:
        number = len(self._stand_ins) + 1
        return self._stand_ins.setdefault(
            match[0].lower(), f"{REMOVED}{number}"
        )

    def clean_path(self, path: str) -> str | None:
        """Give a path, of a file or a link, with such names.

        :returns: None if one of its names has other characters.
        """
        parts = []
        for part in path.split("/"):
            name = self.clean_name(part) if part else part
            if name is None:
                return None
            parts.append(name)
        return "/".join(parts)
