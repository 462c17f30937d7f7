# SPDX-License-Identifier: Apache-2.0

"""Which PCI functions a host has, and which of them are of interest."""

import collections

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


def read(
    tree: tree_lib.Tree,
) -> tuple[list["PciFunction"], list[str]]:
    """Look at every PCI function, in address order."""
    problems = []
    found = []
    for name in tree.list_entries(address_lib.DEVICES):
        address = address_lib.find(name)
        if address is None:
            problems.append(
                f"{address_lib.DEVICES}/{name} is not a PCI address"
            )
            continue
        seen = PciFunction(tree, address)
        if seen.class_code is None or seen.ids is None:
            problems.append(
                f"{seen.path}: vendor, device or class cannot be read; the"
                " device is left out"
            )
            continue
        found.append(seen)
    return sorted(found, key=lambda seen: seen.address), problems


class PciFunction:
    """The little that decides whether a function is of interest."""

    def __init__(self, tree: tree_lib.Tree, address: PciAddress) -> None:
        self.address = address
        self.path = address.path
        self.files = frozenset(tree.list_entries(self.path))
        self.class_code = tree.read_number(f"{self.path}/class")
        vendor = tree.read_number(f"{self.path}/vendor")
        product = tree.read_number(f"{self.path}/device")
        self.ids = (
            None if vendor is None or product is None else (vendor, product)
        )
        physfn = (
            tree.read_link_name(f"{self.path}/physfn")
            if "physfn" in self.files
            else None
        )
        self.physfn = address_lib.find(physfn) if physfn else None
        group = (
            tree.read_link_name(f"{self.path}/iommu_group")
            if "iommu_group" in self.files
            else None
        )
        self.iommu_group = int(group) if group and group.isdecimal() else None

    def find_kind(self) -> Kind | None:
        """Tell what the function is by itself."""
        assert self.class_code is not None
        assert self.ids is not None
        base_class = self.class_code >> 8
        vendor, product = self.ids
        if base_class in GPU_CLASSES:
            return Kind.GPU
        if base_class == _BRIDGE_OTHER and vendor == chips.NVIDIA:
            return Kind.NVSWITCH
        if base_class >> 8 == _NETWORK and (
            base_class == _INFINIBAND
            # A driver has made an RDMA device of it.
            or "infiniband" in self.files
            # What has RDMA also when it is bound to vfio-pci: ConnectX and
            # BlueField, and Amazon's EFA.
            or (base_class == _ETHERNET and vendor == _MELLANOX)
            or (vendor == _AMAZON and product in _EFA)
        ):
            return Kind.NIC
        return None


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
