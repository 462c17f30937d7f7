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
from nova_gpu_filter.host.saved import inventory_shape
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

FORMAT = "nova-gpu-host inventory"
VERSION = 1


def write(host: inventory.Inventory, host_links: HostLinks) -> dict[str, Any]:
    """Give the inventory as what ``json.dumps`` takes."""
    described = host_links.build_device_links(host_links.devices)
    modules = dict(host_links.module_ids)
    document = inventory_shape.INVENTORY.dump(host)
    for function, entry in zip(
        host.functions, document["devices"], strict=True
    ):
        entry["lspci"] = function.format_lspci(host.with_domain)
        entry["module_id"] = modules.get(function.address)
        if function.address in described:
            text = codec.format_text(described[function.address])
            entry[codec.TAG] = text or None
        entry["relations"] = inventory_shape.RELATIONS.dump(
            _map_relations(host_links, function)
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        **document,
        **inventory_shape.LINKS.dump(host_links),
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
        inventory_shape.INVENTORY.check(data, "")
        inventory_shape.LINKS.check(data, "")
        return _read(data)
    except ValueError as error:
        raise exception.BadInput(
            source=source, reason=f"the inventory is damaged: {error}"
        ) from None


def _read(
    data: Mapping[str, Any],
) -> tuple[inventory.Inventory, HostLinks]:
    host: inventory.Inventory = inventory_shape.INVENTORY.load(data)
    if len(host.by_address) < len(host.functions):
        raise ValueError("devices: an address is there twice")
    relations = {
        function.address: inventory_shape.RELATIONS.load(entry["relations"])
        for function, entry in zip(
            host.functions, data["devices"], strict=True
        )
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
    return host, HostLinks(
        devices=devices,
        matrix=tuple(
            tuple(
                links.SELF
                if a is b
                else _read_symmetric(relations, a.address, b.address)
                for b in devices
            )
            for a in devices
        ),
        ways=ways,
        module_ids=tuple(
            (function.address, entry["module_id"])
            for function, entry in zip(
                host.functions, data["devices"], strict=True
            )
            if entry["module_id"] is not None
        ),
        **inventory_shape.LINKS.load(data),
    )


def _read_symmetric(
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
