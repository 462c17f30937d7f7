# SPDX-License-Identifier: Apache-2.0

"""Names of PCI devices, from the database that the distribution maintains.

lspci, libpciaccess and udev read the same data, of the PCI ID Repository
(https://pci-ids.ucw.cz): package ``hwdata`` of RPM distributions, ``pci.ids``
of Debian and Ubuntu, and in another form udev's own hardware database, which
is on every host with systemd. No package of PyPI carries it: ``hwdata`` there
reads the same file, without its classes and subsystems. pci.ids(5) describes
the format.
"""

from collections.abc import Callable
from collections.abc import Iterator
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

    def find_vendor(self, vendor: int) -> str | None:
        """Name a vendor."""
        return self._find_heading(f"{vendor:04x}  ")

    def find_product(self, vendor: int, product: int) -> str | None:
        """Name a device of a vendor."""
        return _find(self._read_block(f"{vendor:04x}  "), f"\t{product:04x}  ")

    def find_subsystem(
        self, vendor: int, product: int, subvendor: int, subproduct: int
    ) -> str | None:
        """Name a board, where the database knows it."""
        inside = False
        wanted = f"\t\t{subvendor:04x} {subproduct:04x}  "
        for line in self._read_block(f"{vendor:04x}  "):
            if line.startswith(f"\t{product:04x}  "):
                inside = True
            elif inside and not line.startswith("\t\t"):
                return None
            elif inside and line.startswith(wanted):
                return line[len(wanted) :].strip()
        return None

    def find_device_class(self, code: int) -> str | None:
        """Name a class by its upper two bytes, as lspci does: ``0x0300``."""
        name = _find(
            self._read_block(f"C {code >> 8:02x}  "), f"\t{code & 0xFF:02x}  "
        )
        return name or self._find_heading(f"C {code >> 8:02x}  ")

    def _find_heading(self, prefix: str) -> str | None:
        at = self.text.find(f"\n{prefix}")
        if at < 0:
            return None
        line = self.text[at + 1 :].split("\n", 1)[0]
        return line[len(prefix) :].strip()

    def _read_block(self, prefix: str) -> Iterator[str]:
        """Yield the lines below a heading, comments left out."""
        at = self.text.find(f"\n{prefix}")
        if at < 0:
            return
        at = self.text.find("\n", at + 1)
        while 0 <= at < len(self.text) - 1:
            end = self.text.find("\n", at + 1)
            end = len(self.text) if end < 0 else end
            line = self.text[at + 1 : end]
            if line.startswith("\t"):
                yield line
            elif line and not line.startswith("#"):
                return
            at = end


def _find(lines: Iterator[str], prefix: str) -> str | None:
    for line in lines:
        if line.startswith(prefix):
            return line[len(prefix) :].strip()
    return None


EMPTY = Names("", "\n")
"""Where there is no database: every name is unknown."""


class CachedNames:
    """Names, asked of the database once for all functions alike."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[tuple[int | None, ...], str | None] = {}

    def find_vendor(self, vendor: int) -> str | None:
        """Name a vendor."""
        return self._get((vendor,), lambda: self._names.find_vendor(vendor))

    def find_product(self, vendor: int, product: int) -> str | None:
        """Name a device."""
        return self._get(
            (vendor, product),
            lambda: self._names.find_product(vendor, product),
        )

    def find_device_class(self, code: int) -> str | None:
        """Name a class of devices."""
        return self._get(
            (code, None, None), lambda: self._names.find_device_class(code)
        )

    def find_subsystem(
        self,
        vendor: int,
        product: int,
        subvendor: int | None,
        subproduct: int | None,
    ) -> str | None:
        """Name a card; None where it has no ids of its own."""
        if subvendor is None or subproduct is None:
            return None
        return self._get(
            (vendor, product, subvendor, subproduct),
            lambda: self._names.find_subsystem(
                vendor, product, subvendor, subproduct
            ),
        )

    def _get(
        self,
        key: tuple[int | None, ...],
        ask: Callable[[], str | None],
    ) -> str | None:
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]


def load(*trees: tree_lib.Tree) -> Names:
    """Read the first database that is there; ``EMPTY`` if there is none.

    :param trees: where to look: below the root that is examined, then on the
        machine that we run on.
    """
    for tree in trees:
        for path in PLACES:
            names = _read(tree, path)
            if names is not None:
                return names
        for folder in HWDB_PLACES:
            names = _read_hwdb(tree, folder)
            if names is not None:
                return names
    return EMPTY


def _read(tree: tree_lib.Tree, path: str) -> Names | None:
    data = tree.read_bytes(path, _LIMIT)
    return None if data is None else parse(path, data)


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


_VENDOR = re.compile(r"pci:v0000([0-9A-F]{4})\*")
_PRODUCT = re.compile(r"pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})\*")
_BOARD = re.compile(
    r"pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})"
    r"sv0000([0-9A-F]{4})sd0000([0-9A-F]{4})\*"
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
    for expression, form in (
        (_VENDOR, "{0}  "),
        (_PRODUCT, "\t{1}  "),
        (_BOARD, "\t\t{2} {3}  "),
    ):
        match = expression.fullmatch(pattern)
        if match:
            return form.format(*(part.lower() for part in match.groups()))
    match = _CLASS.fullmatch(pattern)
    if match is None:
        return None
    if match[2] is None:
        return f"C {match[1].lower()}  "
    return f"\t{match[2].lower()}  "
