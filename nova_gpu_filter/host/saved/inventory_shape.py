# SPDX-License-Identifier: Apache-2.0

"""The fields of an inventory in JSON, and what each may hold."""

from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.saved import shape
from nova_gpu_filter.topology import links

_TEXT = shape.Text()
_ADDRESS = shape.Text(PciAddress.parse)
_HEX = shape.Text(shape.hexadecimal)
_NODE = shape.Number(0xFFFF)
_NUMBER = shape.Number()
_SOME = shape.Nullable

_MDEV = {"type": _TEXT, "name": _TEXT, "available": _SOME(_NUMBER)}
_BAR = {
    "index": _NUMBER,
    "size": _NUMBER,
    "64bit": shape.Flag(),
    "prefetchable": shape.Flag(),
}
_PCIE_LINK = {
    "speed": _SOME(_TEXT),
    "width": _SOME(_NUMBER),
    "max_speed": _SOME(_TEXT),
    "max_width": _SOME(_NUMBER),
}
_DEVICE = {
    "address": _ADDRESS,
    "kind": _SOME(shape.Text(inventory.Kind)),
    "class": _HEX,
    "class_name": _SOME(_TEXT),
    "vendor_id": _HEX,
    "product_id": _HEX,
    "vendor_name": _SOME(_TEXT),
    "product_name": _SOME(_TEXT),
    "subsystem_vendor_id": _SOME(_HEX),
    "subsystem_id": _SOME(_HEX),
    "subsystem_name": _SOME(_TEXT),
    "revision": _SOME(_HEX),
    "chip": _SOME(_TEXT),
    "architecture": _SOME(_TEXT),
    "compute_capability": _SOME(_TEXT),
    "isa": _SOME(_TEXT),
    "numa_node": _SOME(_NODE),
    "iommu_group": _SOME(_NUMBER),
    "driver": _SOME(_TEXT),
    "driver_override": _SOME(_TEXT),
    "sriov_totalvfs": _SOME(_NUMBER),
    "sriov_numvfs": _SOME(_NUMBER),
    "vf_product_id": _SOME(_HEX),
    "physfn": _SOME(_ADDRESS),
    "vfs": shape.Many(_ADDRESS),
    "mdev_types": shape.Many(shape.Record(_MDEV)),
    "bars": shape.Many(shape.Record(_BAR)),
    "reset_methods": _SOME(shape.Many(_TEXT)),
    "pcie_link": _SOME(shape.Record(_PCIE_LINK)),
    "root": _SOME(_TEXT),
    "bridges": shape.Many(_ADDRESS),
    "interfaces": shape.Many(_TEXT),
    "rdma_devices": shape.Many(_TEXT),
    "modalias": _SOME(_TEXT),
    "power_state": _SOME(_TEXT),
    "boot_display": shape.Flag(),
    "module_id": _SOME(_NUMBER),
    "relations": shape.Map(_ADDRESS, _SOME(shape.Text(links.parse))),
}
_USE = {
    "use": shape.Text(inventory.Use),
    "text": _TEXT,
    "path": _TEXT,
    "content": _SOME(_TEXT),
}
_DEVICE_LATER = {
    "vgpu_type": _SOME(_NUMBER),
    "vgpu_type_name": _SOME(_TEXT),
    "host_uses": shape.Many(shape.Record(_USE)),
}
_MEMBER = {
    "address": _ADDRESS,
    "class": _HEX,
    "class_name": _SOME(_TEXT),
    "ids": _TEXT,
    "driver": _SOME(_TEXT),
}
_PARTITION = {
    "id": _NUMBER,
    "devices": shape.Many(_ADDRESS),
    "module_ids": shape.Many(_NUMBER),
    "active": shape.Flag(),
}
INVENTORY = shape.Record(
    {
        "hostname": _TEXT,
        "kernel": _SOME(_TEXT),
        "numa_nodes": shape.Many(_NODE),
        "names_from": _SOME(_TEXT),
        "devices": shape.Many(shape.Record(_DEVICE, _DEVICE_LATER)),
        "iommu_groups": shape.Many(
            shape.Record(
                {
                    "group": _NUMBER,
                    "members": shape.Many(shape.Record(_MEMBER)),
                }
            )
        ),
        "nvlink_known": shape.Many(_ADDRESS),
        "nvlink_from": shape.Many(_TEXT),
        "fabric_partitions": shape.Many(shape.Record(_PARTITION)),
        "notes": shape.Many(_TEXT),
        "problems": shape.Many(_TEXT),
    }
)
"""What reading needs; what else stands there is derived of it."""
