# SPDX-License-Identifier: Apache-2.0

"""What the host itself uses a PCI function for, by the kernel's own files."""

from collections.abc import Iterator

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import board_devices
from nova_gpu_filter.host.sysfs import host_consoles
from nova_gpu_filter.host.sysfs import host_disks
from nova_gpu_filter.host.sysfs import host_interfaces
from nova_gpu_filter.host.sysfs import tree as tree_lib


class HostUses:
    """Which PCI functions the host uses, read when it is asked for."""

    def __init__(self, tree: tree_lib.Tree) -> None:
        self._tree = tree
        self._consoles = host_consoles.HostConsoles(tree)
        self._interfaces = host_interfaces.HostInterfaces(tree)
        self._disks = host_disks.HostDisks(tree)

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
            *(
                HostUse(
                    row.role.use,
                    f"it is {row.role.text} ({row.name})",
                    f"{address.path}/device",
                    f"{vendor_id:04x}:{product_id:04x}",
                )
                for row in board_devices.list_rows(
                    vendor_id, product_id, class_code
                )
            ),
            *(
                ()
                if is_vf
                else self._read_product_data(address, vendor_id, product_id)
            ),
            *self._consoles.by_address.get(address, ()),
            *self._interfaces.find(address, is_vf),
            *self._disks.by_address.get(address, ()),
        )

    def _read_product_data(
        self, address: PciAddress, vendor_id: int, product_id: int
    ) -> Iterator[HostUse]:
        path = f"{address.path}/vpd"
        most = board_devices.PRODUCT_DATA_BYTES
        for row in board_devices.BY_PRODUCT_DATA:
            if vendor_id != row.vendor_id or product_id not in row.product_ids:
                continue
            data = self._tree.read_bytes(path, most)
            # Only root may read it, and most of these devices are plain NICs.
            self._tree.problems.pop(path, None)
            if data is not None and row.marker in data:
                yield HostUse(
                    Use.MANAGEMENT, row.name, path, row.marker.decode()
                )
