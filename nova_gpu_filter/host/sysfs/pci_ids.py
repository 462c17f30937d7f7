# SPDX-License-Identifier: Apache-2.0

"""Names of PCI devices, from the database that the distribution maintains.

lspci, libpciaccess and udev read the same data, of the PCI ID Repository
(https://pci-ids.ucw.cz): package ``hwdata`` of RPM distributions, ``pci.ids``
of Debian and Ubuntu, and in another form udev's own hardware database, which
is on every host with systemd. pci.ids(5) describes the format.
"""

import dataclasses
import gzip
import io
import re
import zlib

from nova_gpu_filter.host.sysfs import tree as tree_lib

PLACES = (
    # update-pciids(8) writes the newest one here.
    "/var/lib/pciutils/pci.ids",
    "/usr/share/hwdata/pci.ids",
    "/usr/share/misc/pci.ids",
    "/usr/share/hwdata/pci.ids.gz",
    "/usr/share/misc/pci.ids.gz",
    "/usr/share/pci.ids",
)
HWDB_PLACES = ("/usr/lib/udev/hwdb.d", "/lib/udev/hwdb.d")
_HWDB_FILES = ("20-pci-vendor-model.hwdb", "20-pci-classes.hwdb")
_LIMIT = 64 << 20


@dataclasses.dataclass(frozen=True)
class Names:
    """One database. Ids are numbers; an unknown one gives None."""

    source: str
    """The file that it was read from."""
    text: str
    """All of it, beginning with a line feed."""
    _known: dict[tuple[str, ...], str | None] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What was found, for thousands of VFs that are all alike."""

    def find_vendor(self, vendor: int) -> str | None:
        """Name a vendor."""
        return self._find(f"{vendor:04x}")

    def find_product(self, vendor: int, product: int) -> str | None:
        """Name a device of a vendor."""
        return self._find(f"{vendor:04x}", f"{product:04x}")

    def find_subsystem(
        self, vendor: int, product: int, subvendor: int, subproduct: int
    ) -> str | None:
        """Name a board, where the database knows it."""
        return self._find(
            f"{vendor:04x}",
            f"{product:04x}",
            f"{subvendor:04x} {subproduct:04x}",
        )

    def find_device_class(self, code: int) -> str | None:
        """Name a class by its upper two bytes, as lspci does: ``0x0300``."""
        heading = f"C {code >> 8:02x}"
        return self._find(heading, f"{code & 0xFF:02x}") or self._find(heading)

    def _find(self, *ids: str) -> str | None:
        """Find the name of the last id, each being below the one before."""
        if ids not in self._known:
            self._known[ids] = self._search(ids)
        return self._known[ids]

    def _search(self, ids: tuple[str, ...]) -> str | None:
        start, end = 0, len(self.text)
        for depth, id_ in enumerate(ids):
            prefix = "\n" + "\t" * depth + id_ + "  "
            start = self.text.find(prefix, start, end)
            if start < 0:
                return None
            start += len(prefix)
            # A block ends where a line, no comment, is not below its heading.
            below = re.compile(rf"\n\t{{0,{depth}}}[^\t\n#]")
            match = below.search(self.text, start, end)
            end = match.start() if match else end
            line_end = self.text.find("\n", start, end)
        return self.text[start : end if line_end < 0 else line_end].strip()


EMPTY = Names("", "\n")
"""Where there is no database: every name is unknown."""


def load(*trees: tree_lib.Tree) -> Names:
    """Read the first database that is there; ``EMPTY`` if there is none.

    :param trees: where to look: below the root that is examined, then on the
        machine that we run on.
    """
    for tree in trees:
        for path in PLACES:
            data = tree.read_bytes(path, _LIMIT)
            names = None if data is None else parse(path, data)
            if names is not None:
                return names
        for folder in HWDB_PLACES:
            names = _read_hwdb(tree, folder)
            if names is not None:
                return names
    return EMPTY


def parse(source: str, data: bytes) -> Names | None:
    """Make a database of the bytes of a ``pci.ids``, packed or not.

    :returns: None if it is not one.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(_LIMIT)
        except (OSError, EOFError, ValueError, zlib.error):
            return None
    text = "\n" + data.decode("utf-8", "replace").replace("\r\n", "\n")
    if not re.search(r"\n[0-9a-f]{4}  \S", text):
        return None
    return Names(source, text)


_DEVICE = re.compile(
    r"pci:v0000([0-9A-F]{4})(?:d0000([0-9A-F]{4})"
    r"(?:sv0000([0-9A-F]{4})sd0000([0-9A-F]{4}))?)?\*"
)
_CLASS = re.compile(r"pci:v\*d\*sv\*sd\*bc([0-9A-F]{2})(?:sc([0-9A-F]{2}))?\*")
_VALUE = re.compile(r" ID_(?:PCI_)?\w+_FROM_DATABASE=(.*)")


def _read_hwdb(tree: tree_lib.Tree, folder: str) -> Names | None:
    texts = [
        data.decode("utf-8", "replace")
        for name in _HWDB_FILES
        if (data := tree.read_bytes(f"{folder}/{name}", _LIMIT)) is not None
    ]
    if not texts:
        return None
    text = "\n" + convert_hwdb("\n".join(texts))
    return Names(f"{folder}/{_HWDB_FILES[0]}", text)


def convert_hwdb(text: str) -> str:
    """Rewrite udev's hardware database in the form of ``pci.ids``.

    A record is a line with a pattern and, below it, the name; records stand
    in the order of pci.ids, so each line can be rewritten by itself.
    """
    lines = []
    prefix = None
    for line in text.splitlines():
        if line.startswith("pci:"):
            prefix = _build_prefix(line.strip())
        elif prefix is not None and (value := _VALUE.fullmatch(line)):
            lines.append(prefix + value[1])
            prefix = None
    return "\n".join(lines)


def _build_prefix(pattern: str) -> str | None:
    if match := _DEVICE.fullmatch(pattern):
        vendor, product, *board = match.groups(default="")
        if board[0]:
            prefix = f"\t\t{' '.join(board)}"
        else:
            prefix = f"\t{product}" if product else vendor
        return f"{prefix.lower()}  "
    if match := _CLASS.fullmatch(pattern):
        base, sub = match.groups()
        return f"C {base.lower()}  " if sub is None else f"\t{sub.lower()}  "
    return None
