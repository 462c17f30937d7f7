# SPDX-License-Identifier: Apache-2.0

"""What the initramfs loads before udev, by the files of what makes it.

Sources: initramfs-tools(7) and its file modules, dracut.conf(5) and
dracut.cmdline(7), mkinitcpio.conf(5).
"""

from collections.abc import Iterator
import dataclasses
import re

from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.sysfs import tree as tree_lib

MODULES = "/etc/initramfs-tools/modules"
MODULES_PLACES = ("/usr/share/initramfs-tools/modules.d",)
SCRIPTS = (
    "/etc/initramfs-tools/scripts/init-top",
    "/etc/initramfs-tools/scripts/init-premount",
)
DRACUT_PLACES = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")
MKINITCPIO = "/etc/mkinitcpio.conf"
MKINITCPIO_PLACE = "/etc/mkinitcpio.conf.d"
MKINITCPIO_ARRAY = re.compile(
    r"^\s*(MODULES|HOOKS)(\+?)=[\"(]([^\")]*)[\")]", re.MULTILINE
)
"""An array of bash in it: name, ``+``, and the words."""

# Files that show which of them a host has.
_MARKS = {
    "initramfs-tools": ("/etc/initramfs-tools",),
    "dracut": ("/etc/dracut.conf", "/etc/dracut.conf.d"),
    "mkinitcpio": (MKINITCPIO,),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Early:
    """Modules that are loaded before udev, in this order."""

    modules: tuple[str, ...]
    evidence: Evidence
    has_modprobe_options: bool = True
    """Whether modprobe's configuration is in this initramfs."""
    options: tuple[str, ...] = ()
    """What stands behind vfio-pci: ``ids=10de:11bf``."""

    def before(self, module: str) -> tuple[str, ...]:
        """List what is loaded before a module."""
        return self.modules[: self.modules.index(module)]


def tools(tree: tree_lib.Tree) -> frozenset[str]:
    """Tell what makes the initramfs of a host; empty: not known."""
    return frozenset(
        name
        for name, paths in _MARKS.items()
        if any(tree.exists(path) for path in paths)
    )


def read(tree: tree_lib.Tree, module: str) -> Iterator[Early]:
    """Yield the settings that load a module before udev."""
    yield from _initramfs_tools(tree, module)
    yield from _dracut(tree, module)
    yield from _mkinitcpio(tree, module)


def _name(word: str) -> str:
    return word.replace("-", "_")


def _files(tree: tree_lib.Tree, *places: str) -> Iterator[str]:
    for place in places:
        yield from (
            f"{place}/{name}"
            for name in tree.entries(place)
            if name.endswith(".conf")
        )


def _initramfs_tools(tree: tree_lib.Tree, module: str) -> Iterator[Early]:
    for path in (
        MODULES,
        *(
            f"{place}/{name}"
            for place in MODULES_PLACES
            for name in tree.entries(place)
        ),
    ):
        listed: list[str] = []
        for line in (tree.read(path) or "").splitlines():
            words = line.split("#", 1)[0].split()
            if not words:
                continue
            listed.append(_name(words[0]))
            if listed[-1] == module:
                yield Early(
                    tuple(listed),
                    Evidence(path, line.strip()),
                    options=tuple(words[1:]),
                )
                break


def _dracut(tree: tree_lib.Tree, module: str) -> Iterator[Early]:
    # All lists are one, in the order of the files (dracut.conf(5)): what an
    # earlier file names is loaded first.
    listed: list[str] = []
    for path in ("/etc/dracut.conf", *_dracut_files(tree)):
        for line in (tree.read(path) or "").splitlines():
            match = re.match(r"\s*force_drivers(\+?)=(.*)", line)
            if not match:
                continue
            words = match[2].split("#")[0].replace('"', " ").split()
            named = [_name(word.strip("'")) for word in words]
            listed = [*listed, *named] if match[1] else named
            if module in named:
                yield Early(tuple(listed), Evidence(path, line))


def _dracut_files(tree: tree_lib.Tree) -> Iterator[str]:
    """Name the files of both places, by their names; /etc hides the other."""
    paths: dict[str, str] = {}
    for path in _files(tree, *DRACUT_PLACES):
        paths.setdefault(path.rsplit("/", 1)[-1], path)
    for _, path in sorted(paths.items()):
        yield path


def _mkinitcpio(tree: tree_lib.Tree, module: str) -> Iterator[Early]:
    modules: list[str] = []
    hooks: list[str] | None = None
    evidence = None
    for path in (MKINITCPIO, *_files(tree, MKINITCPIO_PLACE)):
        text = tree.read(path) or ""
        for match in MKINITCPIO_ARRAY.finditer(text):
            words = match[3].split()
            if match[1] == "HOOKS":
                hooks = [*(hooks or []), *words] if match[2] else words
                continue
            listed = [_name(word) for word in words]
            modules = [*modules, *listed] if match[2] else listed
            if module in listed:
                evidence = Evidence(path, " ".join(match[0].split()))
    if module in modules and evidence is not None:
        yield Early(
            tuple(modules),
            evidence,
            has_modprobe_options=hooks is None or "modconf" in hooks,
        )
