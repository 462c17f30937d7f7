# SPDX-License-Identifier: Apache-2.0

"""Where devices stand in sysfs, and what stands above them.

The path in /sys/devices is the tree of the hardware:
``/sys/devices/pci0000:3f/0000:3f:01.0/0000:40:00.0/...``
"""

from collections.abc import Iterator
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.sysfs import tree as tree_lib

GROUPS = "/sys/kernel/iommu_groups"
_ROOT_BUS = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")


def find_function(tree: tree_lib.Tree, path: str) -> PciAddress | None:
    """Find the PCI function that a device of the kernel belongs to."""
    place = tree.resolve(path)
    for part in reversed((place or "").split("/")):
        address = address_lib.find(part)
        if address is not None:
            return address
    return None


def find_domain_owners(tree: tree_lib.Tree, path: str) -> Iterator[PciAddress]:
    """Find functions with a PCI domain of their own above a device: VMD.

    Who gives them away gives all that is below away.
    """
    above = None
    for part in (tree.resolve(path) or "").split("/"):
        if above is not None and _ROOT_BUS.fullmatch(part):
            yield above
        above = address_lib.find(part)


def read_bridges(
    tree: tree_lib.Tree, path: str
) -> tuple[str | None, tuple[PciAddress, ...]]:
    """Give the root bus of a device and the bridges above it, from above.

    A domain inside another (Intel VMD) has a root bus of its own, and that
    one counts.
    """
    place = tree.resolve(path)
    if place is None or place == path:
        return None, ()
    root = None
    bridges: list[PciAddress] = []
    for part in place.split("/")[:-1]:
        if _ROOT_BUS.fullmatch(part):
            root, bridges = part, []
        elif root and (bridge := address_lib.find(part)):
            bridges.append(bridge)
    return root, tuple(bridges)
