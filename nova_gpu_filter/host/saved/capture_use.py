# SPDX-License-Identifier: Apache-2.0

"""Finds the files that say which devices the host itself uses.

What is kept of each is in :mod:`nova_gpu_filter.host.saved.kept`.
"""

from collections.abc import Iterator

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.saved import kept_file
from nova_gpu_filter.host.saved.archive import Entry
from nova_gpu_filter.host.saved.tokens import Tokens
from nova_gpu_filter.host.sysfs import host_consoles
from nova_gpu_filter.host.sysfs import host_disks
from nova_gpu_filter.host.sysfs import host_interfaces
from nova_gpu_filter.host.sysfs import tree as tree_lib

_TABLES = (
    host_interfaces.ROUTE,
    host_interfaces.ROUTE6,
    host_interfaces.ADDRESS6,
    host_disks.MOUNTS,
    host_disks.SWAPS,
    host_consoles.IOMEM,
)


def list_entries(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    """Yield what tells the host's use, beside the files of functions."""
    for name in tree.list_entries(host_interfaces.NET):
        place = tree.resolve(f"{host_interfaces.NET}/{name}")
        # Others are of guests and of networks, and nobody asks for them.
        if place is None or not any(map(address_lib.find, place.split("/"))):
            continue
        yield from kept_file.keep_link(tree, f"{host_interfaces.NET}/{name}")
        # Those right below a PCI function are kept with it.
        if not address_lib.find(place.split("/")[-3]):
            yield from keep_interface(tree, tokens, place)
    yield from _keep_disks(tree, tokens)
    yield from _keep_members(tree)
    yield from _keep_consoles(tree, tokens)
    for path in _TABLES:
        yield from kept_file.keep(tree, tokens, path)


def keep_interface(
    tree: tree_lib.Tree, tokens: Tokens, place: str
) -> Iterator[Entry]:
    """Keep the state of an interface, and what is above it."""
    yield Entry(place)
    for name in ("operstate", "flags"):
        yield from kept_file.keep(tree, tokens, f"{place}/{name}")
    # It cannot be read of an interface that is down.
    if tree.read(f"{place}/operstate") != "down":
        yield from kept_file.keep(tree, tokens, f"{place}/carrier")
    for name in tree.list_entries(place):
        if name == "master" or name.startswith("upper_"):
            target = tree.read_link_name(f"{place}/{name}")
            if target is not None:
                # By its name only: where it leads is not read.
                yield Entry(f"{place}/{name}", target=f"../{target}")


def _keep_disks(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    for name in tree.list_entries(host_disks.BLOCK):
        path = f"{host_disks.BLOCK}/{name}"
        yield from kept_file.keep_link(tree, path)
        place = tree.resolve(path)
        if place is None:
            continue
        for file in ("dev", "dm/name"):
            yield from kept_file.keep(tree, tokens, f"{place}/{file}")
        for holder in tree.list_entries(f"{place}/holders"):
            yield from kept_file.keep_link(tree, f"{place}/holders/{holder}")
        subsystem = host_disks.find_subsystem(place)
        for entry in tree.list_entries(subsystem) if subsystem else ():
            yield from kept_file.keep_link(tree, f"{subsystem}/{entry}")
        number = tree.read(f"{place}/dev")
        if number:
            data = f"{host_disks.UDEV}/b{number}"
            yield from kept_file.keep(tree, tokens, data)


def _keep_members(tree: tree_lib.Tree) -> Iterator[Entry]:
    """Keep the members of file systems, whose UUIDs nobody asks for."""
    for number, system in enumerate(tree.list_entries(host_disks.BTRFS)):
        folder = f"{host_disks.BTRFS}/{system}/devices"
        for name in tree.list_entries(folder):
            yield Entry(f"{host_disks.BTRFS}/{number}/devices/{name}", b"")
    for number, system in enumerate(tree.list_entries(host_disks.BCACHEFS)):
        for member in tree.list_entries(f"{host_disks.BCACHEFS}/{system}"):
            disk = tree.read_link_name(
                f"{host_disks.BCACHEFS}/{system}/{member}/block"
            )
            if disk is not None and member.startswith("dev-"):
                yield Entry(
                    f"{host_disks.BCACHEFS}/{number}/{member}/block",
                    target=f"../../../../class/block/{disk}",
                )


def _keep_consoles(tree: tree_lib.Tree, tokens: Tokens) -> Iterator[Entry]:
    yield from kept_file.keep_link(tree, host_consoles.FRAME_BUFFER)
    place = tree.resolve(host_consoles.FRAME_BUFFER)
    if place is not None and tree.is_directory(place):
        yield Entry(place)
        yield from kept_file.keep_link(tree, f"{place}/device")
    for name in tree.list_entries(host_consoles.DRM):
        path = f"{host_consoles.DRM}/{name}"
        place = tree.resolve(path)
        if place is not None and tree.exists(f"{place}/boot_display"):
            yield from kept_file.keep_link(tree, path)
            yield from kept_file.keep(tree, tokens, f"{place}/boot_display")
    yield from kept_file.keep(tree, tokens, host_consoles.CONSOLES)
    for name in (tree.read(host_consoles.CONSOLES) or "").split():
        yield from kept_file.keep_link(tree, f"/sys/class/tty/{name}")
        place = tree.resolve(f"/sys/class/tty/{name}")
        if place is not None:
            yield from kept_file.keep_link(tree, f"{place}/device")
