# SPDX-License-Identifier: Apache-2.0

"""Draws the topology of a host as SVG.

Above, nested frames: NUMA nodes, root buses, PCIe switches, devices. Below,
one line for each NVLink group and each fabric partition, with a dot under
each GPU that belongs to it.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import textwrap
from typing import TypeAlias

from nova_gpu_filter.drawing import shapes
from nova_gpu_filter.host import layout
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.topology import links

_BOX_WIDTH = 158
_BOX_HEIGHT = 54
_GAP = 10
_HEADER = 24
_LABELS_WIDTH = 120
_LINE_HEIGHT = 22
_BOXES_A_ROW = 4
_NAME_CHARACTERS = 23
_MIN_WIDTH = 560

_FILL = {Kind.GPU: "#dcefd3", Kind.NIC: "#d9e6f7", Kind.NVSWITCH: "#f7e3cf"}
_STROKE = {Kind.GPU: "#4b8b3b", Kind.NIC: "#3b6ea8", Kind.NVSWITCH: "#b06a1f"}


_Block: TypeAlias = shapes.Block[PciAddress]


def draw(host: Inventory, host_links: linking.HostLinks) -> str:
    """Draw the host; the text of an SVG document."""
    names = layout.labels(host)
    nodes = [_node(host, node, names) for node in layout.tree(host)]
    parts: list[str] = []
    centers: dict[PciAddress, float] = {}
    has_lines = bool(host_links.partitions or layout.nvlink_groups(host_links))
    x = float(shapes.MARGIN + _LABELS_WIDTH * has_lines)
    top = 64.0
    bottom = top
    for block in nodes:
        parts.append(shapes.move(block.parts, x, top))
        centers.update(
            (address, x + center) for address, center in block.centers.items()
        )
        x += block.width + _GAP * 2
        bottom = max(bottom, top + block.height)
    width = max(x + shapes.MARGIN - _GAP * 2, _MIN_WIDTH)
    y = bottom + 34
    for line in _lines(host_links, names, centers):
        parts.append(shapes.move((line,), 0, y))
        y += _LINE_HEIGHT
    y += 8
    for note in _notes(host_links, width):
        parts.append(
            shapes.text(shapes.MARGIN, y, note, size=11, fill=shapes.FAINT)
        )
        y += 16
    height = y + shapes.MARGIN
    title = layout.title(host)
    return shapes.document(title, width, height, parts)


def _device(
    host: Inventory, device: Function, names: dict[PciAddress, str]
) -> str:
    assert device.kind is not None
    product = layout.describe(device)
    if len(product) > _NAME_CHARACTERS:
        product = product[: _NAME_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    below = str(device.address)
    if device.vfs:
        below += f"  {len(device.vfs)} VFs"
    others = len(host.card(device)) - 1
    if others and device.kind is Kind.GPU:
        below += f"  +{others} functions"
    return "\n".join(
        (
            f"<title>{shapes.escape(device.lspci(with_domain=True))}</title>",
            shapes.frame(
                _BOX_WIDTH,
                _BOX_HEIGHT,
                _FILL[device.kind],
                _STROKE[device.kind],
            ),
            shapes.text(8, 16, names[device.address], weight="bold"),
            shapes.text(
                _BOX_WIDTH - 8,
                16,
                device.driver or "no driver",
                size=10,
                fill=shapes.FAINT,
                anchor="end",
            ),
            shapes.text(8, 32, product, size=11),
            shapes.text(8, 46, below, size=10, fill=shapes.FAINT),
        )
    )


def _rows(devices: Sequence[Function]) -> Iterator[Sequence[Function]]:
    """Give each kind rows of its own: GPUs above their NICs."""
    for kind in (Kind.GPU, Kind.NIC, Kind.NVSWITCH):
        alike = [device for device in devices if device.kind is kind]
        for start in range(0, len(alike), _BOXES_A_ROW):
            yield alike[start : start + _BOXES_A_ROW]


def _switch(
    host: Inventory,
    switch: layout.Switch,
    names: dict[PciAddress, str],
    fill: str,
) -> _Block:
    parts: list[str] = []
    centers: dict[PciAddress, float] = {}
    width, x, y = 0.0, 0.0, float(_HEADER)
    for row in _rows(switch.devices):
        for column, device in enumerate(row):
            x = float(_GAP + column * (_BOX_WIDTH + _GAP))
            parts.append(shapes.move((_device(host, device, names),), x, y))
            centers[device.address] = x + _BOX_WIDTH / 2
        width = max(width, float(_GAP + len(row) * (_BOX_WIDTH + _GAP)))
        y += _BOX_HEIGHT + _GAP
    x, tallest = float(_GAP), 0.0
    for nested in switch.switches:
        block = _switch(host, nested, names, shapes.other_fill(fill))
        parts.append(shapes.move(block.parts, x, y))
        centers.update(
            (address, x + center) for address, center in block.centers.items()
        )
        x += block.width + _GAP
        tallest = max(tallest, block.height + _GAP)
    width = max(width, x, _GAP * 2 + len(switch.name) * shapes.CHARACTER_WIDTH)
    height = y + tallest
    title = shapes.text(_GAP, 16, switch.name, size=11, fill=shapes.FAINT)
    return _Block(
        width,
        height,
        (shapes.frame(width, height, fill, "#b8c0c8"), title, *parts),
        centers,
    )


def _node(
    host: Inventory, node: layout.Node, names: dict[PciAddress, str]
) -> _Block:
    parts: list[str] = []
    centers: dict[PciAddress, float] = {}
    x, tallest = float(_GAP), 0.0
    for root in node.roots:
        block = _switch(host, root, names, "#ffffff")
        parts.append(shapes.move(block.parts, x, _HEADER + 4))
        centers.update(
            (address, x + center) for address, center in block.centers.items()
        )
        x += block.width + _GAP
        tallest = max(tallest, block.height)
    name = (
        "NUMA node not known"
        if node.numa_node is None
        else f"NUMA node {node.numa_node}"
    )
    height = _HEADER + 4 + tallest + _GAP
    title = shapes.text(_GAP, 18, name, weight="bold")
    frame = shapes.frame(x, height, "#eceff2", "#9aa5b1")
    return _Block(x, height, (frame, title, *parts), centers)


def _lines(
    host_links: linking.HostLinks,
    names: dict[PciAddress, str],
    centers: dict[PciAddress, float],
) -> Iterator[str]:
    groups = layout.nvlink_groups(host_links)
    if groups or host_links.partitions:
        yield "\n".join(
            shapes.text(
                centers[device.address],
                4,
                names[device.address],
                size=11,
                anchor="middle",
                weight="bold",
            )
            for device in host_links.devices
            if device.kind is Kind.GPU
        )
    for link, devices in groups:
        yield shapes.line(
            f"NVLink {links.name(link)}",
            [centers[device.address] for device in devices],
            shapes.NVLINK,
        )
    for partition in host_links.partitions:
        active = ", active" if partition.is_active else ""
        yield shapes.line(
            f"partition {partition.id}{active}",
            [centers[address] for address in partition.addresses],
            shapes.PARTITION,
        )


def _notes(host_links: linking.HostLinks, width: float) -> Iterator[str]:
    notes = list(host_links.notes)
    if host_links.nvlink_from:
        notes.insert(0, f"NVLinks from {', '.join(host_links.nvlink_from)}")
    if not host_links.devices:
        notes.insert(0, "No GPU, NVSwitch or RDMA NIC.")
    characters = int((width - 2 * shapes.MARGIN) / shapes.CHARACTER_WIDTH)
    for note in notes:
        yield from textwrap.wrap(note, max(characters, 40))
