# SPDX-License-Identifier: Apache-2.0

"""An inventory, with its links, as JSON: to look at, and to read again.

Ids are written as lspci does (``"10de"``), addresses with their domain, sizes
in bytes. ``read`` takes what ``write`` gave, of this version of the format.
"""

import itertools
import json
import operator
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.links.host_links import Partition
from nova_gpu_filter.host.saved import shape
from nova_gpu_filter.host.saved.shape import Field
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

FORMAT = "nova-gpu-host inventory"
VERSION = 1

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
_GET_VALUE = operator.attrgetter("value")
_SOME = shape.Nullable
_ELSEWHERE = Field(None)
"""Written by :func:`write`, and not read."""
_RELATIONS = shape.Map(_ADDRESS, _SOME(shape.Text(links.parse, links.name)))
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
        "use": shape.Text(inventory.Use, _GET_VALUE),
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
        "kind": _SOME(shape.Text(inventory.Kind, _GET_VALUE)),
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
        "relations": Field(None, _RELATIONS),
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
_LINKS = shape.Record(
    dict,
    {
        "nvlink_known": shape.Many(_ADDRESS, frozenset),
        "nvlink_from": shape.Many(_TEXT),
        "fabric_partitions": Field("partitions", shape.Many(_PARTITION)),
        "notes": shape.Many(_TEXT),
    },
)
"""What is told of links beside the relations of devices."""
_INVENTORY = shape.Record(
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


def write(host: inventory.Inventory, host_links: HostLinks) -> dict[str, Any]:
    """Give the inventory as what ``json.dumps`` takes."""
    described = host_links.build_device_links(host_links.devices)
    modules = dict(host_links.module_ids)
    document = _INVENTORY.dump(host)
    for function, entry in zip(
        host.functions, document["devices"], strict=True
    ):
        entry["lspci"] = function.format_lspci(host.with_domain)
        entry["module_id"] = modules.get(function.address)
        if function.address in described:
            text = codec.format_text(described[function.address])
            entry[codec.TAG] = text or None
        entry["relations"] = _RELATIONS.dump(
            _map_relations(host_links, function)
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        **document,
        **_LINKS.dump(host_links),
    }


def _map_relations(
    host_links: HostLinks, function: inventory.Function
) -> dict[PciAddress, Link | None]:
    """Give the link to every other device, keyed by address.

    VFs and the other functions of a card have those of their PF and card.
    """
    row = host_links.place.get(function.address)
    if row is None:
        return {}
    return {
        other.address: link
        for other, link in zip(
            host_links.devices, host_links.matrix[row], strict=True
        )
        if other is not function
    }


def read(source: str, text: str) -> tuple[inventory.Inventory, HostLinks]:
    """Read what ``inventory -f json`` printed.

    :param source: what error messages call it, for example its path.
    :raises BadInput: it is something else.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise exception.BadInput(
            source=source, reason=f"this is no JSON: {error}"
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise exception.BadInput(
            source=source,
            reason="this is no inventory: make one with 'nova-gpu-host"
            " inventory -f json'",
        )
    if data.get("version") != VERSION:
        raise exception.BadInput(
            source=source,
            reason=f"format version {data.get('version')!r}, and this is"
            f" version {VERSION}: make the inventory again",
        )
    try:
        return _read(data)
    except ValueError as error:
        raise exception.BadInput(
            source=source, reason=f"the inventory is damaged: {error}"
        ) from None


def _read(data: Any) -> tuple[inventory.Inventory, HostLinks]:
    host: inventory.Inventory = _INVENTORY.load(data, "")
    of_links = _LINKS.load(data, "")
    if len(host.by_address) < len(host.functions):
        raise ValueError("devices: an address is there twice")
    entries = dict(zip(host.by_address, data["devices"], strict=True))
    relations = {
        address: _RELATIONS.load(entry["relations"], "relations")
        for address, entry in entries.items()
    }
    devices = host.devices
    ways = pcie.find_ways(devices, host.numa_nodes)
    for (row, a), (column, b) in itertools.permutations(enumerate(devices), 2):
        where = f"devices, {a.address}: relations"
        if b.address not in relations[a.address]:
            raise ValueError(f"{where} has no {b.address}")
        link = relations[a.address][b.address]
        if not (link is not None and links.is_direct(link)) and (
            link != ways[row][column]
        ):
            raise ValueError(
                f"{where}: {b.address} is not where root, bridges and NUMA"
                " node say"
            )
    for a, b in itertools.combinations(devices, 2):
        if relations[a.address][b.address] != relations[b.address][a.address]:
            raise ValueError(
                f"devices, {a.address}: relations: {b.address} is linked"
                " otherwise the other way"
            )
    return host, HostLinks(
        devices=devices,
        matrix=tuple(
            tuple(
                links.SELF if a is b else relations[a.address][b.address]
                for b in devices
            )
            for a in devices
        ),
        ways=ways,
        module_ids=tuple(
            (address, entry["module_id"])
            for address, entry in entries.items()
            if entry["module_id"] is not None
        ),
        **of_links,
    )
