# SPDX-License-Identifier: Apache-2.0

"""Which disks the host itself uses.

Sources, in the kernel: Documentation/filesystems/proc.rst (mountinfo, swaps),
Documentation/ABI/stable/sysfs-block (holders), fs/btrfs/sysfs.c (devices) and
fs/bcachefs/sysfs.c (dev-0/block), drivers/pci/controller/vmd.c,
drivers/nvme/host/multipath.c (nvme-subsystem). udev keeps what blkid found in
/run/udev/data (systemd, src/libsystemd/sd-device).
"""

from collections.abc import Iterator
import functools
import re

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import tree as tree_lib

BLOCK = "/sys/class/block"
UDEV = "/run/udev/data"
BTRFS = "/sys/fs/btrfs"
BCACHEFS = "/sys/fs/bcachefs"
MOUNTS = "/proc/self/mountinfo"
SWAPS = "/proc/swaps"

# Members of what is put together of several disks. ZFS leaves no holder in
# sysfs; others do once they are assembled (util-linux, libblkid/src/
# superblocks: usage "raid", and ceph_bluestore).
_MEMBER_USAGE = "raid"
_MEMBER_TYPES = frozenset({"ceph_bluestore", "bcache", "crypto_LUKS"})
_MANY = 3


class HostDisks:
    """The disks of functions, and what the host has on them."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def by_address(self) -> dict[PciAddress, list[HostUse]]:
        """The disks and partitions of functions that the host uses."""
        found: dict[PciAddress, list[HostUse]] = {}
        for name in self._tree.list_entries(BLOCK):
            # Most of them, loops and the like, are on no PCI function.
            controllers = tuple(self._find_controllers(name))
            sign = next(self._find_signs(name), None) if controllers else None
            if sign is not None:
                state, path, content = sign
                use = HostUse(Use.DISK, f"{name} {state}", path, content)
                for address in controllers:
                    found.setdefault(address, []).append(use)
        return found

    def _find_controllers(self, name: str) -> Iterator[PciAddress]:
        """Find the functions that a block device is on.

        With multipath in the NVMe driver it is below a subsystem, which
        links to its controllers.
        """
        path = f"{BLOCK}/{name}"
        address = device_paths.find_function(self._tree, path)
        if address is not None:
            yield address
            yield from device_paths.find_domain_owners(self._tree, path)
            return
        folder = find_subsystem(self._tree.resolve(path) or "")
        for entry in self._tree.list_entries(folder) if folder else ():
            if re.fullmatch(r"nvme\d+", entry):
                address = device_paths.find_function(
                    self._tree, f"{folder}/{entry}"
                )
                if address is not None:
                    yield address

    def _find_signs(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Yield the signs that the host uses a disk, strongest first.

        Each is what is said of the disk, the file and what it has.
        """
        path = f"{BLOCK}/{name}"
        number = self._tree.read(f"{path}/dev") or ""
        mounted = self._mounts.get(number) or self._mounts.get(f"/dev/{name}")
        if mounted is not None:
            yield f"is mounted on {mounted}", MOUNTS, name
        if name in self._members:
            kind, file = self._members[name]
            yield f"is part of a mounted {kind}", file, name
        holders = self._tree.list_entries(f"{path}/holders")
        if holders:
            shown = ", ".join(map(self._find_holder, holders[:_MANY]))
            yield f"is part of {shown}", f"{path}/holders", " ".join(holders)
        if f"/dev/{name}" in self._swaps:
            yield "is swap space", SWAPS, f"/dev/{name}"
        data = f"{UDEV}/b{number}"
        content = dict(
            line[2:].split("=", 1)
            for line in (self._tree.read(data) or "").splitlines()
            if line.startswith("E:") and "=" in line
        )
        kind = content.get("ID_FS_TYPE", "")
        if (
            content.get("ID_FS_USAGE") == _MEMBER_USAGE
            or kind in _MEMBER_TYPES
            or kind.endswith("_member")
        ):
            yield (
                f"holds data of the host ({kind})",
                data,
                f"ID_FS_TYPE={kind}",
            )

    def _find_holder(self, name: str) -> str:
        known = self._tree.read(f"{BLOCK}/{name}/dm/name")
        return f"{name} ({known})" if known else name

    @functools.cached_property
    def _members(self) -> dict[str, tuple[str, str]]:
        """Members of mounted file systems of several disks: (kind, file).

        /proc/self/mountinfo names one of them only.
        """
        found = {}
        for system in self._tree.list_entries(BTRFS):
            folder = f"{BTRFS}/{system}/devices"
            for name in self._tree.list_entries(folder):
                found[name] = ("btrfs", f"{folder}/{name}")
        for system in self._tree.list_entries(BCACHEFS):
            for member in self._tree.list_entries(f"{BCACHEFS}/{system}"):
                path = f"{BCACHEFS}/{system}/{member}/block"
                disk = (
                    self._tree.read_link_name(path)
                    if member.startswith("dev-")
                    else None
                )
                if disk:
                    found[disk] = ("bcachefs", path)
        return found

    @functools.cached_property
    def _mounts(self) -> dict[str, str]:
        """Where devices are mounted, by number (``259:3``) and by source."""
        found: dict[str, str] = {}
        for line in (self._tree.read(MOUNTS) or "").splitlines():
            front, _, back = line.partition(" - ")
            fields, source = front.split(), back.split()
            if len(fields) > 4 and len(source) > 1:
                found.setdefault(fields[2], fields[4])
                # The number of a subvolume of btrfs is its own.
                found.setdefault(source[1], fields[4])
        return found

    @functools.cached_property
    def _swaps(self) -> frozenset[str]:
        lines = (self._tree.read(SWAPS) or "").splitlines()[1:]
        return frozenset(line.split()[0] for line in lines if line.split())


def find_subsystem(place: str) -> str | None:
    """Find the NVMe subsystem that a block device is in; None: in none."""
    match = re.match(r"(.*/nvme-subsystem/[^/]+)/", place)
    return match[1] if match else None
