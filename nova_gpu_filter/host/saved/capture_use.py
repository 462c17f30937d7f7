# SPDX-License-Identifier: Apache-2.0

"""What of a host's files says which devices the host uses, without secrets.

Of files in which there is more (addresses, names of volumes), only what
``host_use`` reads is kept.
"""

from collections.abc import Iterator

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.sysfs import host_use
from nova_gpu_filter.host.sysfs import tree as tree_lib

Entry = tuple[str, bytes | None, str | None]
"""(path, content, target of a link); a directory has neither."""

_NET_FILES = ("operstate", "flags")
_REMOVED = "REMOVED"


def entries(tree: tree_lib.Tree) -> Iterator[Entry]:
    """Yield what :mod:`host_use` reads beside the files of PCI functions."""
    for name in tree.entries(host_use.NET):
        yield from _link(tree, f"{host_use.NET}/{name}")
        place = tree.resolve(f"{host_use.NET}/{name}")
        # Those right below a PCI function are kept with it.
        if place is not None and not address_lib.find(place.split("/")[-3]):
            yield from interface(tree, place)
    yield from _disks(tree)
    yield from _consoles(tree)
    for path, keep in _TEXTS.items():
        text = tree.read(path)
        if text is not None:
            lines = [
                kept
                for number, line in enumerate(text.splitlines())
                if (kept := keep(number, line)) is not None
            ]
            yield path, "".join(f"{line}\n" for line in lines).encode(), None


def _link(tree: tree_lib.Tree, path: str) -> Iterator[Entry]:
    target = tree.link_target(path)
    if target is not None:
        yield path, None, target


def _file(tree: tree_lib.Tree, path: str) -> Iterator[Entry]:
    content = tree.read_bytes(path)
    if content is not None:
        yield path, content, None


def interface(tree: tree_lib.Tree, place: str) -> Iterator[Entry]:
    """Keep the state of an interface, and what is above it."""
    files = frozenset(tree.entries(place))
    yield place, None, None
    for name in _NET_FILES:
        if name in files:
            yield from _file(tree, f"{place}/{name}")
    # It cannot be read of an interface that is down.
    if "carrier" in files and tree.read(f"{place}/operstate") != "down":
        yield from _file(tree, f"{place}/carrier")
    for name in files:
        if name == "master" or name.startswith("upper_"):
            yield from _link(tree, f"{place}/{name}")


def _disks(tree: tree_lib.Tree) -> Iterator[Entry]:
    for name in tree.entries(host_use.BLOCK):
        path = f"{host_use.BLOCK}/{name}"
        yield from _link(tree, path)
        place = tree.resolve(path)
        if place is None:
            continue
        yield from _file(tree, f"{place}/dev")
        yield from _file(tree, f"{place}/dm/name")
        for holder in tree.entries(f"{place}/holders"):
            yield from _link(tree, f"{place}/holders/{holder}")
        subsystem = host_use.subsystem(place)
        for entry in tree.entries(subsystem) if subsystem else ():
            yield from _link(tree, f"{subsystem}/{entry}")
        number = tree.read(f"{place}/dev")
        found = tree.read(f"{host_use.UDEV}/b{number}") if number else None
        kept = [
            line
            for line in (found or "").splitlines()
            if line.startswith(("E:ID_FS_TYPE=", "E:ID_FS_USAGE="))
        ]
        if kept:
            text = "".join(f"{line}\n" for line in kept)
            yield f"{host_use.UDEV}/b{number}", text.encode(), None


def _consoles(tree: tree_lib.Tree) -> Iterator[Entry]:
    yield from _link(tree, host_use.FRAME_BUFFER)
    place = tree.resolve(host_use.FRAME_BUFFER)
    if place is not None and tree.is_directory(place):
        yield place, None, None
        yield from _link(tree, f"{place}/device")
    for name in tree.entries(host_use.DRM):
        path = f"{host_use.DRM}/{name}"
        place = tree.resolve(path)
        if place is not None and tree.exists(f"{place}/boot_display"):
            yield from _link(tree, path)
            yield from _file(tree, f"{place}/boot_display")
    active = tree.read(host_use.CONSOLES)
    if active is not None:
        yield host_use.CONSOLES, f"{active}\n".encode(), None
        for name in active.split():
            yield from _link(tree, f"/sys/class/tty/{name}")
            place = tree.resolve(f"/sys/class/tty/{name}")
            if place is not None:
                yield from _link(tree, f"{place}/device")


def _route(number: int, line: str) -> str | None:
    fields = line.split()
    if number == 0 or len(fields) < 2:
        return "Iface\tDestination" if number == 0 else None
    default = host_use.DEFAULT
    return f"{fields[0]}\t{default if fields[1] == default else _REMOVED}"


def _route6(number: int, line: str) -> str | None:
    fields = line.split()
    if len(fields) < 10 or host_use.EVERY_INTERFACE.match(fields[0]):
        return None
    middle = " ".join([_REMOVED] * 7)
    return f"{_REMOVED} {fields[1]} {middle} {fields[-1]}"


def _address6(number: int, line: str) -> str | None:
    fields = line.split()
    if len(fields) != 6:
        return None
    return f"{_REMOVED} 00 00 {fields[3]} 00 {fields[5]}"


def _mount(number: int, line: str) -> str | None:
    front, _, back = line.partition(" - ")
    fields, source = front.split(), back.split()
    if len(fields) < 5 or len(source) < 2 or not source[1].startswith("/dev/"):
        return None
    return f"0 0 {fields[2]} / {fields[4]} - {source[0]} {source[1]}"


def _swap(number: int, line: str) -> str | None:
    if number and not line.startswith("/dev/"):
        return None
    return line.split()[0] if line.split() else None


def _memory(number: int, line: str) -> str | None:
    front, separator, name = line.partition(" : ")
    if not separator:
        return None
    indent = front[: len(front) - len(front.lstrip())]
    if address_lib.find(name.strip()) or host_use.FRAME_BUFFERS.search(name):
        return f"{indent}0-0 : {name.strip()}"
    return f"{indent}0-0 : "


_TEXTS = {
    host_use.ROUTE: _route,
    host_use.ROUTE6: _route6,
    host_use.ADDRESS6: _address6,
    host_use.MOUNTS: _mount,
    host_use.SWAPS: _swap,
    host_use.IOMEM: _memory,
}
