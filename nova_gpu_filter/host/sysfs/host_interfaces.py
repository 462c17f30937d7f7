# SPDX-License-Identifier: Apache-2.0

"""Which network interfaces the host itself uses.

Sources, in the kernel: Documentation/ABI/testing/sysfs-class-net (operstate,
master and upper links), net/ipv4/fib_trie.c and net/ipv6/route.c (/proc/net).
"""

from collections.abc import Iterator
import functools
import re

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import tree as tree_lib

NET = "/sys/class/net"
ROUTE = "/proc/net/route"
ROUTE6 = "/proc/net/ipv6_route"
ADDRESS6 = "/proc/net/if_inet6"

_IFF_UP = 0x1
_GLOBAL_SCOPE = "00"
DEFAULT = "00000000"
# fe80::/10 and ff00::/8 are routes of every interface that is up.
EVERY_INTERFACE = re.compile(r"(fe[89ab]|ff)", re.I)
_MANY = 3


class HostInterfaces:
    """The interfaces of functions, and what the host has on them."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree

    def find(self, address: PciAddress, is_vf: bool) -> Iterator[HostUse]:
        """Yield the use of each interface of a function.

        :param is_vf: whether it is a VF, which guests get while it is up.
        """
        path = f"{address.path}/net"
        named = {
            name: f"{path}/{name}" for name in self._tree.list_entries(path)
        } or {name: f"{NET}/{name}" for name in self._deeper.get(address, ())}
        for name, folder in named.items():
            sign = next(self._find_signs(name, folder, is_vf), None)
            if sign is not None:
                state, file, content = sign
                yield HostUse(Use.NETWORK, f"{name} {state}", file, content)

    @functools.cached_property
    def _deeper(self) -> dict[PciAddress, list[str]]:
        """Interfaces that are not right below their PCI function.

        Of virtio, of auxiliary devices (a sub-function of mlx5), of USB.
        """
        found: dict[PciAddress, list[str]] = {}
        for name in self._tree.list_entries(NET):
            address = device_paths.find_function(self._tree, f"{NET}/{name}")
            if address is not None:
                found.setdefault(address, []).append(name)
        return found

    def _find_signs(
        self, name: str, folder: str, is_vf: bool
    ) -> Iterator[tuple[str, str, str]]:
        """Yield the signs that the host uses an interface, strongest first.

        Each is what is said of the interface, the file and what it has.
        """
        files = self._tree.list_entries(folder)
        route, is_default = self._routes.get(name, ("", False))
        if is_default:
            yield "has the default route", route, name
        if "master" in files:
            path = f"{folder}/master"
            master = self._tree.read_link_name(path) or "a master"
            yield f"is in {master}", path, master
        upper = [
            file.removeprefix("upper_")
            for file in files
            if file.startswith("upper_")
        ]
        if upper:
            yield (
                f"carries {', '.join(upper[:_MANY])}",
                f"{folder}/upper_{upper[0]}",
                upper[0],
            )
        if route:
            yield "has a route", route, name
        if name in self._addresses:
            yield "has an address", ADDRESS6, name
        if is_vf:
            # VFs are brought up by whatever manages the network, and guests
            # get them all the same.
            return
        state = self._tree.read(f"{folder}/operstate")
        if state in ("up", "dormant"):
            yield "is up", f"{folder}/operstate", state
        # Drivers that do not say whether there is a carrier are "unknown".
        # The file carrier cannot be read of an interface that is down.
        flags = self._tree.read(f"{folder}/flags") or "0"
        if (
            state in (None, "unknown")
            and _parse_number(flags) & _IFF_UP
            and (
                state == "unknown"
                or self._tree.read(f"{folder}/carrier") == "1"
            )
        ):
            yield "is up", f"{folder}/flags", flags

    @functools.cached_property
    def _routes(self) -> dict[str, tuple[str, bool]]:
        """(file, whether it is the default route), keyed by interface."""
        found: dict[str, tuple[str, bool]] = {}
        for path, name, is_default in self._read_routes():
            if name not in found or is_default:
                found[name] = (path, is_default)
        return found

    def _read_routes(self) -> Iterator[tuple[str, str, bool]]:
        for line in (self._tree.read(ROUTE) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 1:
                yield ROUTE, fields[0], fields[1] == DEFAULT
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


def _parse_number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
