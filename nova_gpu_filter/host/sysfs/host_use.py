# SPDX-License-Identifier: Apache-2.0

"""What the host itself uses a PCI function for, by the kernel's own files.

Sources, in the kernel: Documentation/ABI/testing/sysfs-class-net (operstate,
master and upper links), net/ipv4/fib_trie.c and net/ipv6/route.c
(/proc/net), Documentation/filesystems/proc.rst (mountinfo, swaps),
Documentation/ABI/stable/sysfs-block (holders), fs/btrfs/sysfs.c (devices) and
fs/bcachefs/sysfs.c (dev-0/block), drivers/pci/controller/vmd.c,
drivers/nvme/host/multipath.c (nvme-subsystem),
drivers/video/fbdev/core/fbcon.c (the console is on fb0),
drivers/firmware/sysfb.c and kernel/resource.c (BOOTFB in /proc/iomem),
Documentation/ABI/testing/sysfs-class-drm (boot_display),
Documentation/ABI/testing/sysfs-tty (active). udev keeps what blkid found in
/run/udev/data (systemd, src/libsystemd/sd-device).
"""

from collections.abc import Iterator
import functools
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import displays
from nova_gpu_filter.host.sysfs import management
from nova_gpu_filter.host.sysfs import tree as tree_lib

DEVICES = "/sys/bus/pci/devices"
NET = "/sys/class/net"
BLOCK = "/sys/class/block"
UDEV = "/run/udev/data"
BTRFS = "/sys/fs/btrfs"
BCACHEFS = "/sys/fs/bcachefs"
ROUTE = "/proc/net/route"
ROUTE6 = "/proc/net/ipv6_route"
ADDRESS6 = "/proc/net/if_inet6"
MOUNTS = "/proc/self/mountinfo"
SWAPS = "/proc/swaps"
IOMEM = "/proc/iomem"
FRAME_BUFFER = "/sys/class/graphics/fb0"
DRM = "/sys/class/drm"
CONSOLES = "/sys/class/tty/console/active"

_IFF_UP = 0x1
_GLOBAL_SCOPE = "00"
DEFAULT = "00000000"
# fe80::/10 and ff00::/8 are routes of every interface that is up.
EVERY_INTERFACE = re.compile(r"(fe[89ab]|ff)", re.I)

# Members of what is put together of several disks. ZFS leaves no holder in
# sysfs; others do once they are assembled (util-linux, libblkid/src/
# superblocks: usage "raid", and ceph_bluestore).
_MEMBER_USAGE = "raid"
_MEMBER_TYPES = frozenset({"ceph_bluestore", "bcache", "crypto_LUKS"})

# Names of resources that a firmware's frame buffer has in /proc/iomem:
# drivers/firmware/sysfb.c, drivers/video/fbdev/{efifb,vesafb,simplefb}.c,
# drivers/gpu/drm/sysfb (simpledrm, efidrm, vesadrm).
FRAME_BUFFERS = re.compile(
    r"\b(BOOTFB|efifb|vesafb|simplefb|simpledrm|efidrm|vesadrm)\b", re.I
)

_ROOT_BUS = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_MANY = 3


class HostUses:
    """Which PCI functions the host uses, read when it is asked for."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    def find(
        self,
        address: PciAddress,
        vendor_id: int,
        product_id: int,
        class_code: int,
        is_vf: bool = False,
    ) -> tuple[HostUse, ...]:
        """List what the host uses a function for; empty: nothing."""
        return (
            *self._management(address, vendor_id, product_id, class_code),
            *(
                ()
                if is_vf
                else self._product_data(address, vendor_id, product_id)
            ),
            *self._consoles.get(address, ()),
            *self._interfaces(address, is_vf),
            *self._disks.get(address, ()),
        )

    # What a board needs to manage itself

    def _management(
        self,
        address: PciAddress,
        vendor_id: int,
        product_id: int,
        class_code: int,
    ) -> Iterator[HostUse]:
        path = f"{DEVICES}/{address}/device"
        ids = f"{vendor_id:04x}:{product_id:04x}"
        display = displays.find(vendor_id, product_id, class_code)
        if display is not None:
            yield HostUse(
                Use.BMC if display.is_of_bmc else Use.DISPLAY,
                f"it is {display.what} ({display.name})",
                path,
                ids,
            )
        channel = management.find(
            management.FUNCTIONS, vendor_id, product_id, class_code
        )
        if channel is not None:
            yield HostUse(
                Use.MANAGEMENT,
                f"it is the host's way to its BMC ({channel.name})",
                path,
                ids,
            )

    def _product_data(
        self, address: PciAddress, vendor_id: int, product_id: int
    ) -> Iterator[HostUse]:
        path = f"{DEVICES}/{address}/vpd"
        for row in management.BY_PRODUCT_DATA:
            if vendor_id != row.vendor_id or (
                product_id not in row.product_ids
            ):
                continue
            data = self._tree.read_bytes(path, management.PRODUCT_DATA_BYTES)
            # Only root may read it, and most of these devices are plain NICs.
            self._tree.problems.pop(path, None)
            if data is not None and row.marker in data:
                yield HostUse(
                    Use.MANAGEMENT, row.name, path, row.marker.decode()
                )

    # Console

    @functools.cached_property
    def _consoles(self) -> dict[PciAddress, list[HostUse]]:
        """The functions that the console is on, by every file for it."""
        found: dict[PciAddress, list[HostUse]] = {}
        for address, path, content in (
            *self._frame_buffers(),
            *self._boot_displays(),
            *self._firmware_memory(),
            *self._serial_consoles(),
        ):
            found.setdefault(address, []).append(
                HostUse(
                    Use.CONSOLE,
                    "the host's console is on it",
                    path,
                    content,
                )
            )
        return found

    def _frame_buffers(self) -> Iterator[tuple[PciAddress, str, str]]:
        # The kernel binds its text console to the first one.
        path = FRAME_BUFFER
        address = self._nearest(f"{path}/device") or self._nearest(path)
        if address is not None:
            yield address, f"{path}/device", str(address)

    def _boot_displays(self) -> Iterator[tuple[PciAddress, str, str]]:
        for name in self._tree.entries(DRM):
            path = f"{DRM}/{name}/boot_display"
            if re.fullmatch(r"card\d+", name) and (
                self._tree.read(path) == "1"
            ):
                address = self._nearest(f"{DRM}/{name}")
                if address is not None:
                    yield address, path, "1"

    def _firmware_memory(self) -> Iterator[tuple[PciAddress, str, str]]:
        # Addresses read as 0 without root, but a resource stands below the
        # one that it is a part of.
        above: list[tuple[int, PciAddress | None]] = []
        for line in (self._tree.read(IOMEM) or "").splitlines():
            depth = len(line) - len(line.lstrip())
            name = line.partition(" : ")[2].strip()
            while above and above[-1][0] >= depth:
                above.pop()
            if FRAME_BUFFERS.search(name):
                for _, address in reversed(above):
                    if address is not None:
                        yield address, IOMEM, f"{address} ... {name}"
                        break
            above.append((depth, address_lib.find(name)))

    def _serial_consoles(self) -> Iterator[tuple[PciAddress, str, str]]:
        for name in (self._tree.read(CONSOLES) or "").split():
            address = self._nearest(f"/sys/class/tty/{name}/device")
            if address is not None:
                yield address, CONSOLES, name

    def _nearest(self, path: str) -> PciAddress | None:
        """Find the PCI function that a device of the kernel belongs to."""
        place = self._tree.resolve(path)
        for part in reversed((place or "").split("/")):
            address = address_lib.find(part)
            if address is not None:
                return address
        return None

    # Network

    def _interfaces(
        self, address: PciAddress, is_vf: bool
    ) -> Iterator[HostUse]:
        path = f"{DEVICES}/{address}/net"
        named = {
            name: f"{path}/{name}" for name in self._tree.entries(path)
        } or {name: f"{NET}/{name}" for name in self._deeper.get(address, ())}
        for name, folder in named.items():
            use = self._interface(name, folder, is_vf)
            if use is not None:
                yield use

    @functools.cached_property
    def _deeper(self) -> dict[PciAddress, list[str]]:
        """Interfaces that are not right below their PCI function.

        Of virtio, of auxiliary devices (a sub-function of mlx5), of USB.
        """
        found: dict[PciAddress, list[str]] = {}
        for name in self._tree.entries(NET):
            address = self._nearest(f"{NET}/{name}")
            if address is not None:
                found.setdefault(address, []).append(name)
        return found

    def _interface(
        self, name: str, folder: str, is_vf: bool
    ) -> HostUse | None:
        """Find the strongest sign that the host uses an interface."""
        files = self._tree.entries(folder)
        route = self._routes.get(name)
        if route is not None and route[1]:
            return _network(name, "has the default route", route[0], name)
        if "master" in files:
            master = self._tree.link_name(f"{folder}/master") or "a master"
            return _network(
                name, f"is in {master}", f"{folder}/master", master
            )
        upper = [
            file.removeprefix("upper_")
            for file in files
            if file.startswith("upper_")
        ]
        if upper:
            return _network(
                name,
                f"carries {', '.join(upper[:_MANY])}",
                f"{folder}/upper_{upper[0]}",
                upper[0],
            )
        if route is not None:
            return _network(name, "has a route", route[0], name)
        if name in self._addresses:
            return _network(name, "has an address", ADDRESS6, name)
        # VFs are brought up by whatever manages the network, and guests get
        # them all the same.
        return None if is_vf else self._up(name, folder, files)

    def _up(
        self, name: str, folder: str, files: tuple[str, ...]
    ) -> HostUse | None:
        state = (
            self._tree.read(f"{folder}/operstate")
            if "operstate" in files
            else None
        )
        if state in ("up", "dormant"):
            return _network(name, "is up", f"{folder}/operstate", state)
        # Drivers that do not say whether there is a carrier are "unknown".
        # The file carrier cannot be read of an interface that is down.
        flags = (
            self._tree.read(f"{folder}/flags") if "flags" in files else None
        )
        if (
            state in (None, "unknown")
            and _number(flags) & _IFF_UP
            and (
                state == "unknown"
                or self._tree.read(f"{folder}/carrier") == "1"
            )
        ):
            return _network(name, "is up", f"{folder}/flags", flags)
        return None

    @functools.cached_property
    def _routes(self) -> dict[str, tuple[str, bool]]:
        """(file, whether it is the default route), keyed by interface."""
        found: dict[str, tuple[str, bool]] = {}
        for path, name, is_default in (
            *self._routes_of_ipv4(),
            *self._routes_of_ipv6(),
        ):
            if name not in found or is_default:
                found[name] = (path, is_default)
        return found

    def _routes_of_ipv4(self) -> Iterator[tuple[str, str, bool]]:
        for line in (self._tree.read(ROUTE) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 1:
                yield ROUTE, fields[0], fields[1] == DEFAULT

    def _routes_of_ipv6(self) -> Iterator[tuple[str, str, bool]]:
        for line in (self._tree.read(ROUTE6) or "").splitlines():
            fields = line.split()
            # Destination, length, source, length, next hop, metric,
            # references, uses, flags, device.
            if len(fields) >= 10 and not EVERY_INTERFACE.match(fields[0]):
                yield ROUTE6, fields[-1], fields[1] == "00"

    @functools.cached_property
    def _addresses(self) -> frozenset[str]:
        found = set()
        for line in (self._tree.read(ADDRESS6) or "").splitlines():
            # Address, index, length, scope, flags, device.
            fields = line.split()
            if len(fields) == 6 and fields[3] == _GLOBAL_SCOPE:
                found.add(fields[5])
        return frozenset(found)

    # Disks

    @functools.cached_property
    def _disks(self) -> dict[PciAddress, list[HostUse]]:
        """Functions whose disks or partitions the host uses."""
        found: dict[PciAddress, list[HostUse]] = {}
        for name in self._tree.entries(BLOCK):
            # Most of them, loops and the like, are on no PCI function.
            controllers = tuple(self._controllers(name))
            use = self._block(name) if controllers else None
            if use is not None:
                for address in controllers:
                    found.setdefault(address, []).append(use)
        return found

    def _controllers(self, name: str) -> Iterator[PciAddress]:
        """Find the functions that a block device is on.

        With multipath in the NVMe driver it is below a subsystem, which
        links to its controllers.
        """
        path = f"{BLOCK}/{name}"
        address = self._nearest(path)
        if address is not None:
            yield address
            yield from self._above_domains(path)
            return
        folder = subsystem(self._tree.resolve(path) or "")
        for entry in self._tree.entries(folder) if folder else ():
            if re.fullmatch(r"nvme\d+", entry):
                address = self._nearest(f"{folder}/{entry}")
                if address is not None:
                    yield address

    def _above_domains(self, path: str) -> Iterator[PciAddress]:
        """Find functions with a PCI domain of their own above a device: VMD.

        Who gives them away gives all that is below away.
        """
        above = None
        for part in (self._tree.resolve(path) or "").split("/"):
            if above is not None and _ROOT_BUS.fullmatch(part):
                yield above
            above = address_lib.find(part)

    def _block(self, name: str) -> HostUse | None:
        path = f"{BLOCK}/{name}"
        number = self._tree.read(f"{path}/dev") or ""
        mounted = self._mounts.get(number) or self._mounts.get(f"/dev/{name}")
        if mounted is not None:
            return _disk(f"{name} is mounted on {mounted}", MOUNTS, name)
        if name in self._members:
            kind, file = self._members[name]
            return _disk(f"{name} is part of a mounted {kind}", file, name)
        holders = self._tree.entries(f"{path}/holders")
        if holders:
            shown = ", ".join(self._holder(one) for one in holders[:_MANY])
            return _disk(
                f"{name} is part of {shown}",
                f"{path}/holders",
                " ".join(holders),
            )
        if f"/dev/{name}" in self._swaps:
            return _disk(f"{name} is swap space", SWAPS, f"/dev/{name}")
        if number:
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
                return _disk(
                    f"{name} holds data of the host ({kind})",
                    data,
                    f"ID_FS_TYPE={kind}",
                )
        return None

    def _holder(self, name: str) -> str:
        known = self._tree.read(f"{BLOCK}/{name}/dm/name")
        return f"{name} ({known})" if known else name

    @functools.cached_property
    def _members(self) -> dict[str, tuple[str, str]]:
        """Members of mounted file systems of several disks: (kind, file).

        /proc/self/mountinfo names one of them only.
        """
        found = {}
        for system in self._tree.entries(BTRFS):
            folder = f"{BTRFS}/{system}/devices"
            for name in self._tree.entries(folder):
                found[name] = ("btrfs", f"{folder}/{name}")
        for system in self._tree.entries(BCACHEFS):
            for member in self._tree.entries(f"{BCACHEFS}/{system}"):
                path = f"{BCACHEFS}/{system}/{member}/block"
                disk = (
                    self._tree.link_name(path)
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


def subsystem(place: str) -> str | None:
    """Find the NVMe subsystem that a block device is in; None: in none."""
    match = re.match(r"(.*/nvme-subsystem/[^/]+)/", place)
    return match[1] if match else None


def _number(text: str | None) -> int:
    try:
        return int(text or "0", 0)
    except ValueError:
        return 0


def _network(name: str, state: str, path: str, content: str | None) -> HostUse:
    return HostUse(Use.NETWORK, f"{name} {state}", path, content)


def _disk(text: str, path: str, content: str) -> HostUse:
    return HostUse(Use.DISK, text, path, content)
