# SPDX-License-Identifier: Apache-2.0

"""Draws the topology of a host as text, for a terminal of any encoding."""

from collections.abc import Iterator

from nova_gpu_filter.host import layout
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.topology import links

Labels = dict[PciAddress, str]


def draw(host: Inventory, host_links: linking.HostLinks) -> str:
    """Draw NUMA nodes, PCIe switches and devices, and the matrix of links."""
    return "\n".join(_lines(host, host_links)) + "\n"


def _lines(host: Inventory, host_links: linking.HostLinks) -> Iterator[str]:
    yield layout.title(host)
    labels = layout.labels(host)
    for node in layout.tree(host):
        yield ""
        if node.numa_node is not None:
            yield f"NUMA node {node.numa_node}"
        else:
            yield "NUMA node not known"
        for index, root in enumerate(node.roots):
            last = index == len(node.roots) - 1
            yield from _branch(host, root, labels, "", last)
    if len(host_links.devices) > 1:
        yield ""
        yield from _matrix(host_links, labels)
    yield from _nvlinks(host_links, labels)
    yield from _partitions(host_links, labels)
    for note in host_links.notes:
        yield ""
        yield f"Note: {note}"


def _branch(
    host: Inventory,
    switch: layout.Switch,
    labels: Labels,
    indent: str,
    last: bool,
) -> Iterator[str]:
    yield f"{indent}+- {switch.name}"
    below = indent + ("   " if last else "|  ")
    items = len(switch.devices) + len(switch.switches)
    for device in switch.devices:
        items -= 1
        yield f"{below}+- {_device(host, device, labels)}"
    for nested in switch.switches:
        items -= 1
        yield from _branch(host, nested, labels, below, items == 0)


def _device(host: Inventory, device: Function, labels: Labels) -> str:
    parts = [
        labels[device.address],
        str(device.address),
        layout.describe(device),
    ]
    others = [
        f".{other.address.function:x} {other.class_name or other.ids}"
        for other in host.card(device)
        if other is not device and other.address not in labels
    ]
    if others:
        parts.append(f"(with {', '.join(others)})")
    if device.vfs:
        parts.append(f"({len(device.vfs)} VFs)")
    if device.rdma_devices:
        parts.append(f"({' '.join(device.rdma_devices)})")
    parts.append(f"[{device.driver or 'no driver'}]")
    return " ".join(parts)


def _matrix(host_links: linking.HostLinks, labels: Labels) -> Iterator[str]:
    places = [host_links.place[address] for address in labels]
    names = list(labels.values())
    width = max(map(len, (*names, "NODE?"))) + 1
    yield (" " * width + "".join(name.ljust(width) for name in names)).rstrip()
    for name, row in zip(names, places, strict=True):
        cells = [_cell(host_links, row, column) for column in places]
        yield "".join(cell.ljust(width) for cell in (name, *cells)).rstrip()
    if any(
        not host_links.is_certain(a, b)
        for a in host_links.devices
        for b in host_links.devices
        if a is not b
    ):
        yield "?  the link over PCIe; whether there is an NVLink is unknown"


def _cell(host_links: linking.HostLinks, a: int, b: int) -> str:
    link = host_links.matrix[a][b]
    if link is None:
        return "-"
    name = links.name(link)
    one, other = host_links.devices[a], host_links.devices[b]
    if a != b and not host_links.is_certain(one, other):
        name += "?"
    return name


def _nvlinks(host_links: linking.HostLinks, labels: Labels) -> Iterator[str]:
    if not host_links.nvlink_from:
        return
    yield ""
    yield f"NVLink groups, from {', '.join(host_links.nvlink_from)}"
    found = layout.nvlink_groups(host_links)
    for link, devices in found:
        names = " ".join(labels[device.address] for device in devices)
        yield f"  {links.name(link):<5} {names}"
    if not found:
        yield "  none"


def _partitions(
    host_links: linking.HostLinks, labels: Labels
) -> Iterator[str]:
    if not host_links.partitions:
        return
    yield ""
    yield "Fabric partitions"
    for partition in host_links.partitions:
        names = " ".join(labels[address] for address in partition.addresses)
        active = "  (active)" if partition.is_active else ""
        yield f"  {partition.id:<3} {names}{active}"
