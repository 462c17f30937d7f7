# SPDX-License-Identifier: Apache-2.0

"""An inventory, with its links, as JSON: to look at, and to read again.

Ids are written as lspci does (``"10de"``), addresses with their domain, sizes
in bytes. ``read`` takes what ``write`` gave, of this version of the format.
"""

from collections.abc import Mapping
import itertools
import json
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.links.host_links import Partition
from nova_gpu_filter.host.saved import inventory_shape
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

FORMAT = "nova-gpu-host inventory"
VERSION = 1


def write(host: inventory.Inventory, host_links: HostLinks) -> dict[str, Any]:
    """Give the inventory as what ``json.dumps`` takes."""
    described = host_links.device_links(host_links.devices)
    modules = dict(host_links.module_ids)
    return {
        "format": FORMAT,
        "version": VERSION,
        "hostname": host.hostname,
        "kernel": host.kernel,
        "numa_nodes": list(host.numa_nodes),
        "names_from": host.names_from,
        "devices": [
            {
                **_function(host, function),
                "module_id": modules.get(function.address),
                "gpu_links": (
                    codec.format_text(described[function.address]) or None
                    if function.address in described
                    else None
                ),
                "relations": _relations(host_links, function),
            }
            for function in host.functions
        ],
        "iommu_groups": [
            {
                "group": number,
                "members": [
                    {
                        "address": str(member.address),
                        "class": f"{member.class_code:06x}",
                        "class_name": member.class_name,
                        "ids": member.ids,
                        "driver": member.driver,
                    }
                    for member in members
                ],
            }
            for number, members in host.groups
        ],
        "nvlink_known": [
            str(address) for address in sorted(host_links.nvlink_known)
        ],
        "nvlink_from": list(host_links.nvlink_from),
        "fabric_partitions": [
            {
                "id": partition.id,
                "devices": [str(address) for address in partition.addresses],
                "module_ids": list(partition.module_ids),
                "active": partition.is_active,
            }
            for partition in host_links.partitions
        ],
        "notes": list(host_links.notes),
        "problems": list(host.problems),
    }


def _relations(
    host_links: HostLinks, function: inventory.Function
) -> dict[str, str | None]:
    """Give the link to every other device, keyed by address.

    VFs and the other functions of a card have those of their PF and card.
    """
    row = host_links.place.get(function.address)
    if row is None:
        return {}
    return {
        str(other.address): None if link is None else links.name(link)
        for other, link in zip(
            host_links.devices, host_links.matrix[row], strict=True
        )
        if other is not function
    }


def _id(value: int | None) -> str | None:
    return None if value is None else f"{value:04x}"


def _address(value: PciAddress | None) -> str | None:
    return None if value is None else str(value)


def _function(
    host: inventory.Inventory, function: inventory.Function
) -> dict[str, Any]:
    chip, link = function.chip, function.pcie_link
    return {
        "address": str(function.address),
        "kind": function.kind.value if function.kind else None,
        "lspci": function.lspci(host.with_domain),
        "class": f"{function.class_code:06x}",
        "class_name": function.class_name,
        "vendor_id": _id(function.vendor_id),
        "product_id": _id(function.product_id),
        "vendor_name": function.vendor_name,
        "product_name": function.product_name,
        "subsystem_vendor_id": _id(function.subvendor_id),
        "subsystem_id": _id(function.subproduct_id),
        "subsystem_name": function.subsystem_name,
        "revision": (
            None if function.revision is None else f"{function.revision:02x}"
        ),
        "chip": chip.code_name if chip else None,
        "architecture": chip.architecture if chip else None,
        "compute_capability": chip.compute_capability if chip else None,
        "isa": chip.isa if chip else None,
        "numa_node": function.numa_node,
        "iommu_group": function.iommu_group,
        "driver": function.driver,
        "driver_override": function.driver_override,
        "nova_type": function.nova_type,
        "sriov_totalvfs": function.sriov_totalvfs,
        "sriov_numvfs": function.sriov_numvfs,
        "vf_product_id": _id(function.vf_product_id),
        "physfn": _address(function.physfn),
        "vfs": [str(address) for address in function.vfs],
        "mdev_types": [
            {
                "type": mdev.type_id,
                "name": mdev.name,
                "available": mdev.available,
            }
            for mdev in function.mdev_types
        ],
        "vgpu_type": function.vgpu_type,
        "vgpu_type_name": function.vgpu_type_name,
        "bars": [
            {
                "index": bar.index,
                "size": bar.size,
                "64bit": bar.is_64bit,
                "prefetchable": bar.is_prefetchable,
            }
            for bar in function.bars
        ],
        "bar_bytes": function.bar_bytes,
        "reset_methods": (
            None
            if function.reset_methods is None
            else list(function.reset_methods)
        ),
        "pcie_link": (
            None
            if link is None
            else {
                "speed": link.speed,
                "width": link.width,
                "max_speed": link.max_speed,
                "max_width": link.max_width,
            }
        ),
        "root": function.root,
        "bridges": [str(address) for address in function.bridges],
        "interfaces": list(function.interfaces),
        "rdma_devices": list(function.rdma_devices),
        "modalias": function.modalias,
        "power_state": function.power_state,
        "boot_display": function.is_boot_display,
        "host_uses": [
            {
                "use": one.use.value,
                "text": one.text,
                "path": one.path,
                "content": one.content,
            }
            for one in function.host_uses
        ],
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
        inventory_shape.INVENTORY.check(data, "")
        return _read(data)
    except ValueError as error:
        raise exception.BadInput(
            source=source, reason=f"the inventory is damaged: {error}"
        ) from None


def _read(
    data: Mapping[str, Any],
) -> tuple[inventory.Inventory, HostLinks]:
    functions = tuple(_read_function(entry) for entry in data["devices"])
    host = inventory.Inventory(
        hostname=data["hostname"],
        functions=functions,
        groups=tuple(
            (
                entry["group"],
                tuple(
                    inventory.GroupMember(
                        address=PciAddress.parse(member["address"]),
                        class_code=int(member["class"], 16),
                        ids=member["ids"],
                        driver=member["driver"],
                        class_name=member["class_name"],
                    )
                    for member in entry["members"]
                ),
            )
            for entry in data["iommu_groups"]
        ),
        numa_nodes=tuple(data["numa_nodes"]),
        kernel=data["kernel"],
        names_from=data["names_from"],
        problems=tuple(data["problems"]),
    )
    if len(host.by_address) < len(functions):
        raise ValueError("devices: an address is there twice")
    relations = {
        function.address: {
            PciAddress.parse(other): None
            if name is None
            else links.parse(name)
            for other, name in entry["relations"].items()
        }
        for function, entry in zip(functions, data["devices"], strict=True)
    }
    devices = host.devices
    ways = pcie.ways(devices, host.numa_nodes)
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
    return host, HostLinks(
        devices=devices,
        matrix=tuple(
            tuple(
                links.SELF
                if a is b
                else _symmetric(relations, a.address, b.address)
                for b in devices
            )
            for a in devices
        ),
        ways=ways,
        nvlink_known=frozenset(
            PciAddress.parse(text) for text in data["nvlink_known"]
        ),
        nvlink_from=tuple(data["nvlink_from"]),
        module_ids=tuple(
            (PciAddress.parse(entry["address"]), entry["module_id"])
            for entry in data["devices"]
            if entry["module_id"] is not None
        ),
        partitions=tuple(
            Partition(
                id=entry["id"],
                addresses=tuple(
                    PciAddress.parse(text) for text in entry["devices"]
                ),
                module_ids=tuple(entry["module_ids"]),
                is_active=entry["active"],
            )
            for entry in data["fabric_partitions"]
        ),
        notes=tuple(data["notes"]),
    )


def _symmetric(
    relations: Mapping[PciAddress, Mapping[PciAddress, Link | None]],
    a: PciAddress,
    b: PciAddress,
) -> Link | None:
    link = relations[a][b]
    if relations[b][a] != link:
        raise ValueError(
            f"devices, {a}: relations: {b} is linked otherwise the other way"
        )
    return link


def _number(text: str | None) -> int | None:
    return None if text is None else int(text, 16)


def _read_function(data: Mapping[str, Any]) -> inventory.Function:
    chip, link = data["chip"], data["pcie_link"]
    return inventory.Function(
        address=PciAddress.parse(data["address"]),
        kind=inventory.Kind(data["kind"]) if data["kind"] else None,
        class_code=int(data["class"], 16),
        vendor_id=int(data["vendor_id"], 16),
        product_id=int(data["product_id"], 16),
        subvendor_id=_number(data["subsystem_vendor_id"]),
        subproduct_id=_number(data["subsystem_id"]),
        revision=_number(data["revision"]),
        class_name=data["class_name"],
        vendor_name=data["vendor_name"],
        product_name=data["product_name"],
        subsystem_name=data["subsystem_name"],
        chip=(
            chips.Chip(
                chip,
                data["architecture"],
                data["compute_capability"],
                data["isa"],
            )
            if chip
            else None
        ),
        numa_node=data["numa_node"],
        iommu_group=data["iommu_group"],
        driver=data["driver"],
        driver_override=data["driver_override"],
        sriov_totalvfs=data["sriov_totalvfs"],
        sriov_numvfs=data["sriov_numvfs"],
        vf_product_id=_number(data["vf_product_id"]),
        physfn=PciAddress.parse(data["physfn"]) if data["physfn"] else None,
        vfs=tuple(PciAddress.parse(text) for text in data["vfs"]),
        mdev_types=tuple(
            inventory.MdevType(
                entry["type"], entry["name"], entry["available"]
            )
            for entry in data["mdev_types"]
        ),
        vgpu_type=data.get("vgpu_type"),
        vgpu_type_name=data.get("vgpu_type_name"),
        bars=tuple(
            inventory.Bar(
                entry["index"],
                entry["size"],
                entry["64bit"],
                entry["prefetchable"],
            )
            for entry in data["bars"]
        ),
        reset_methods=(
            None
            if data["reset_methods"] is None
            else tuple(data["reset_methods"])
        ),
        pcie_link=(
            None
            if link is None
            else inventory.PcieLink(
                link["speed"],
                link["width"],
                link["max_speed"],
                link["max_width"],
            )
        ),
        root=data["root"],
        bridges=tuple(PciAddress.parse(text) for text in data["bridges"]),
        interfaces=tuple(data["interfaces"]),
        rdma_devices=tuple(data["rdma_devices"]),
        modalias=data["modalias"],
        power_state=data["power_state"],
        is_boot_display=data["boot_display"],
        # Inventories of before do not have it.
        host_uses=tuple(
            inventory.HostUse(
                inventory.Use(entry["use"]),
                entry["text"],
                entry["path"],
                entry["content"],
            )
            for entry in data.get("host_uses", ())
        ),
    )
