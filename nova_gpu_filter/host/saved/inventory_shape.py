# SPDX-License-Identifier: Apache-2.0

"""The fields of an inventory in JSON: what each holds, and stands for."""

import operator
from typing import Any

from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links.host_links import Partition
from nova_gpu_filter.host.saved import shape
from nova_gpu_filter.host.saved.shape import Field
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links

_TEXT = shape.Text()
_ADDRESS = shape.Text(PciAddress.parse)
_ID = shape.Text(shape.parse_hexadecimal, "{:04x}".format)
_CLASS = Field(
    "class_code", shape.Text(shape.parse_hexadecimal, "{:06x}".format)
)
_REVISION = shape.Text(shape.parse_hexadecimal, "{:02x}".format)
_NODE = shape.Number(0xFFFF)
_NUMBER = shape.Number()
_FLAG = shape.Flag()
_SOME = shape.Nullable
_ELSEWHERE = Field(None)
"""Written by :mod:`inventory_json`, and not read."""


def _make_enum_text(of: type[inventory.Kind | inventory.Use]) -> shape.Text:
    return shape.Text(of, operator.attrgetter("value"))


RELATIONS = shape.Map(_ADDRESS, _SOME(shape.Text(links.parse, links.name)))
"""The link of a device to each other one, keyed by address."""
_MDEV = shape.Record(
    inventory.MdevType,
    {
        "type": Field("type_id", _TEXT),
        "name": _TEXT,
        "available": _SOME(_NUMBER),
        "made": Field("made", shape.Many(_TEXT), True),
    },
)
_BAR = shape.Record(
    inventory.Bar,
    {
        "index": _NUMBER,
        "size": _NUMBER,
        "64bit": Field("is_64bit", _FLAG),
        "prefetchable": Field("is_prefetchable", _FLAG),
    },
)
_PCIE_LINK = shape.Record(
    inventory.PcieLink,
    {
        "speed": _SOME(_TEXT),
        "width": _SOME(_NUMBER),
        "max_speed": _SOME(_TEXT),
        "max_width": _SOME(_NUMBER),
    },
)
_HOST_USE = shape.Record(
    inventory.HostUse,
    {
        "use": _make_enum_text(inventory.Use),
        "text": _TEXT,
        "path": _TEXT,
        "content": _SOME(_TEXT),
    },
)
_CHIP = {
    "chip": "chip.code_name",
    "architecture": "chip.architecture",
    "compute_capability": "chip.compute_capability",
    "isa": "chip.isa",
}


def _make_function(**values: Any) -> inventory.Function:
    name, *others = (values.pop(attribute) for attribute in _CHIP.values())
    return inventory.Function(
        chip=chips.Chip(name, *others) if name else None, **values
    )


_FUNCTION = shape.Record(
    _make_function,
    {
        "address": _ADDRESS,
        "kind": _SOME(_make_enum_text(inventory.Kind)),
        "lspci": _ELSEWHERE,
        "class": _CLASS,
        "class_name": _SOME(_TEXT),
        "vendor_id": _ID,
        "product_id": _ID,
        "vendor_name": _SOME(_TEXT),
        "product_name": _SOME(_TEXT),
        "subsystem_vendor_id": Field("subvendor_id", _SOME(_ID)),
        "subsystem_id": Field("subproduct_id", _SOME(_ID)),
        "subsystem_name": _SOME(_TEXT),
        "revision": _SOME(_REVISION),
        **{name: Field(one, _SOME(_TEXT)) for name, one in _CHIP.items()},
        "numa_node": _SOME(_NODE),
        "iommu_group": _SOME(_NUMBER),
        "driver": _SOME(_TEXT),
        "driver_override": _SOME(_TEXT),
        "nova_type": Field("nova_type"),
        "sriov_totalvfs": _SOME(_NUMBER),
        "sriov_numvfs": _SOME(_NUMBER),
        "vf_product_id": _SOME(_ID),
        "physfn": _SOME(_ADDRESS),
        "vfs": shape.Many(_ADDRESS),
        "mdev_types": shape.Many(_MDEV),
        "vgpu_type": Field("vgpu_type", _SOME(_NUMBER), True),
        "vgpu_type_name": Field("vgpu_type_name", _SOME(_TEXT), True),
        "bars": shape.Many(_BAR),
        "bar_bytes": Field("bar_bytes"),
        "reset_methods": _SOME(shape.Many(_TEXT)),
        "pcie_link": _SOME(_PCIE_LINK),
        "root": _SOME(_TEXT),
        "bridges": shape.Many(_ADDRESS),
        "interfaces": shape.Many(_TEXT),
        "rdma_devices": shape.Many(_TEXT),
        "modalias": _SOME(_TEXT),
        "power_state": _SOME(_TEXT),
        "boot_display": Field("is_boot_display", _FLAG),
        "host_uses": Field("host_uses", shape.Many(_HOST_USE), True),
        "module_id": Field(None, _SOME(_NUMBER)),
        codec.TAG: _ELSEWHERE,
        "relations": Field(None, RELATIONS),
    },
)
_MEMBER = shape.Record(
    inventory.GroupMember,
    {
        "address": _ADDRESS,
        "class": _CLASS,
        "class_name": _SOME(_TEXT),
        "ids": _TEXT,
        "driver": _SOME(_TEXT),
    },
)
_GROUP = shape.Record(
    inventory.IommuGroup,
    {
        "group": Field("number", _NUMBER),
        "members": shape.Many(_MEMBER),
    },
)
_PARTITION = shape.Record(
    Partition,
    {
        "id": _NUMBER,
        "devices": Field("addresses", shape.Many(_ADDRESS)),
        "module_ids": shape.Many(_NUMBER),
        "active": Field("is_active", _FLAG),
    },
)
LINKS = shape.Record(
    dict,
    {
        "nvlink_known": shape.Many(_ADDRESS, frozenset),
        "nvlink_from": shape.Many(_TEXT),
        "fabric_partitions": Field("partitions", shape.Many(_PARTITION)),
        "notes": shape.Many(_TEXT),
    },
)
"""What is told of links beside the relations of devices."""
INVENTORY = shape.Record(
    inventory.Inventory,
    {
        "hostname": _TEXT,
        "kernel": _SOME(_TEXT),
        "numa_nodes": shape.Many(_NODE),
        "names_from": _SOME(_TEXT),
        "devices": Field("functions", shape.Many(_FUNCTION)),
        "iommu_groups": Field("groups", shape.Many(_GROUP)),
        "nvlink_known": _ELSEWHERE,
        "nvlink_from": _ELSEWHERE,
        "fabric_partitions": _ELSEWHERE,
        "notes": _ELSEWHERE,
        "problems": shape.Many(_TEXT),
    },
)
