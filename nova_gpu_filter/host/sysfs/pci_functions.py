# SPDX-License-Identifier: Apache-2.0

"""Which PCI functions a host has, and which of them are of interest."""

import collections
from collections.abc import Container
import dataclasses
import functools

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.host.sysfs import tree as tree_lib

# PCI Code and ID Assignment Specification 1.15: base class 03h, subclasses
# VGA, 3D and other; base class 12h, processing accelerators (AMD Instinct).
GPU_CLASSES = frozenset({0x0300, 0x0302, 0x0380, 0x1200})
BRIDGE = 0x06
_BRIDGE_OTHER = 0x0680
_ETHERNET = 0x0200
_INFINIBAND = 0x0207
_NETWORK = 0x02
_MELLANOX = 0x15B3
_AMAZON = 0x1D0F
_EFA = range(0xEFA0, 0xEFB0)


@dataclasses.dataclass(frozen=True)
class PciFunction:
    """A function, and its files in sysfs.

    A file that is not listed is not asked for: of a thousand VFs few have
    any one of them.
    """

    tree: tree_lib.Tree
    address: PciAddress
    files: frozenset[str]
    class_code: int
    vendor_id: int
    product_id: int

    @functools.cached_property
    def path(self) -> str:
        """The directory of the function."""
        return self.address.path

    def read_text(self, name: str) -> str | None:
        """Read a file of the function; None: it has none."""
        if name not in self.files:
            return None
        return self.tree.read(f"{self.path}/{name}")

    def read_number(self, name: str) -> int | None:
        """Read a number, decimal or with ``0x``; None if there is none."""
        if name not in self.files:
            return None
        return self.tree.read_number(f"{self.path}/{name}")

    def read_link_name(self, name: str) -> str | None:
        """Give the last part of what a symbolic link points to."""
        if name not in self.files:
            return None
        return self.tree.read_link_name(f"{self.path}/{name}")

    def list_entries(self, name: str) -> tuple[str, ...]:
        """List a directory of the function, sorted."""
        if name not in self.files:
            return ()
        return self.tree.list_entries(f"{self.path}/{name}")

    @functools.cached_property
    def physfn(self) -> PciAddress | None:
        """The PF, for a VF."""
        return address_lib.find(self.read_link_name("physfn") or "")

    @functools.cached_property
    def driver(self) -> str | None:
        """The driver that it is bound to."""
        return self.read_link_name("driver")

    @functools.cached_property
    def iommu_group(self) -> int | None:
        """The number of the IOMMU group."""
        group = self.read_link_name("iommu_group")
        return int(group) if group and group.isdecimal() else None

    def find_kind(self) -> Kind | None:
        """Tell what the function is by itself."""
        base_class = self.class_code >> 8
        if base_class in GPU_CLASSES:
            return Kind.GPU
        if base_class == _BRIDGE_OTHER and self.vendor_id == chips.NVIDIA:
            return Kind.NVSWITCH
        if base_class >> 8 == _NETWORK and (
            base_class == _INFINIBAND
            # A driver has made an RDMA device of it.
            or "infiniband" in self.files
            # What has RDMA also when it is bound to vfio-pci: ConnectX and
            # BlueField, and Amazon's EFA.
            or (base_class == _ETHERNET and self.vendor_id == _MELLANOX)
            or (self.vendor_id == _AMAZON and self.product_id in _EFA)
        ):
            return Kind.NIC
        return None


def read(
    tree: tree_lib.Tree, known: Container[PciAddress] = ()
) -> tuple[list[PciFunction], list[str]]:
    """Look at every PCI function, in address order.

    :param known: functions to pass over.
    :returns: the functions, and what could not be read, a sentence each.
    """
    problems = []
    found = []
    for name in tree.list_entries(address_lib.DEVICES):
        address = address_lib.find(name)
        if address is None:
            problems.append(
                f"{address_lib.DEVICES}/{name} is not a PCI address"
            )
            continue
        if address in known:
            continue
        path = address.path
        class_code, vendor, product = (
            tree.read_number(f"{path}/{file}")
            for file in ("class", "vendor", "device")
        )
        if class_code is None or vendor is None or product is None:
            problems.append(
                f"{path}: vendor, device or class cannot be read; the device"
                " is left out"
            )
            continue
        files = frozenset(tree.list_entries(path))
        found.append(
            PciFunction(tree, address, files, class_code, vendor, product)
        )
    return sorted(found, key=lambda seen: seen.address), problems


def choose_kinds(found: list[PciFunction]) -> dict[PciAddress, Kind]:
    """Choose the functions of interest, keyed by address."""
    kinds = {
        seen.address: kind for seen in found if (kind := seen.find_kind())
    }
    for seen in found:
        # A VF is what its PF is: it may have another class.
        if seen.physfn in kinds:
            kinds[seen.address] = kinds[seen.physfn]
    cards = collections.defaultdict(list)
    for seen in found:
        if seen.physfn is None:
            cards[seen.address.card].append(seen)
    for card in cards.values():
        if any(kinds.get(seen.address) is Kind.GPU for seen in card):
            for seen in card:
                kinds.setdefault(seen.address, Kind.FUNCTION)
    return kinds
