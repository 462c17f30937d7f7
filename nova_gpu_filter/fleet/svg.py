# SPDX-License-Identifier: Apache-2.0

"""Draws the devices of a host, their links and their owners as SVG.

Above, nested frames: NUMA nodes, PCIe switches, devices, each in the colour of
its owner. Below, one line for each NVLink group and each fabric partition,
with a dot under each device that belongs to it; last, who has which colour.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html as html_
import itertools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.fleet import layout
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.host import shapes
from nova_gpu_filter.topology import links

_BOX_WIDTH: Final = 142
_BOX_HEIGHT: Final = 54
_GAP: Final = 10
_HEADER: Final = 24
_LABELS_WIDTH: Final = 120
_LINE_HEIGHT: Final = 22
_CHARACTERS: Final = 21
"""That fit into a box."""
_MIN_WIDTH: Final = 480

_FREE: Final = ("#ffffff", "#4b8b3b")
_KEPT: Final = ("#e3e5e8", "#8a929b")
_OWNERS: Final = (
    ("#c9ddf5", "#3b6ea8"),
    ("#f9dcc0", "#b06a1f"),
    ("#e3d6f2", "#7a5aa6"),
    ("#f6c9cf", "#b03a4c"),
    ("#c8ece8", "#2a827a"),
    ("#f5ecb5", "#93801a"),
    ("#d8dcb8", "#6c7233"),
    ("#e8cfe4", "#99478b"),
)
"""(fill, stroke) of servers, in the order of their first device; again from
the first one where there are more."""

_Block: TypeAlias = shapes.Block[str]
Owners: TypeAlias = Mapping[str, str]
"""What to write of who has a device, by the UUID of its provider."""


@dataclasses.dataclass(frozen=True)
class _Picture:
    """What is the same all over one picture."""

    owners: Owners
    colors: Mapping[str, tuple[str, str]]
    """(fill, stroke) by owner."""

    def color(self, device: model.Device) -> tuple[str, str]:
        owner = self.owners.get(device.uuid)
        if owner is not None:
            return self.colors[owner]
        return _FREE if device.is_free else _KEPT

    def status(self, device: model.Device) -> str:
        return self.owners.get(device.uuid) or device.state.value


def html(host: model.Host, owners: Owners) -> str:
    """Draw a host as a page of HTML."""
    title = html_.escape(_title(host))
    # The XML declaration may only stand at the beginning of a file.
    picture = draw(host, owners).partition("\n")[2]
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n</head>\n"
        f'<body style="margin: 0">\n{picture}</body>\n</html>\n'
    )


def draw(host: model.Host, owners: Owners) -> str:
    """Draw a host; the text of an SVG document.

    :param owners: of the devices that somebody has.
    """
    names = dict.fromkeys(
        owners[device.uuid] for device in host.devices if device.uuid in owners
    )
    picture = _Picture(
        owners, dict(zip(names, itertools.cycle(_OWNERS), strict=False))
    )
    groups = layout.nvlink_groups(host.devices)
    found = linked.LinkedDevices.of(host.devices)
    has_lines = bool(groups or found.topology.partitions)
    block = _inside(layout.frames(host.devices), picture, "#eceff2")
    left = float(shapes.MARGIN + _LABELS_WIDTH * has_lines)
    parts = [shapes.move(block.parts, left, 64)]
    centers = {uuid: left + x for uuid, x in block.centers.items()}
    width = max(left + block.width + shapes.MARGIN, _MIN_WIDTH)
    y = 64 + block.height + 34
    for line in _lines(found, groups, centers):
        parts.append(shapes.move((line,), 0, y))
        y += _LINE_HEIGHT
    y += 12
    for row in _legend(picture, width):
        parts.append(shapes.move((row,), shapes.MARGIN, y))
        y += _LINE_HEIGHT
    if found.problem is not None:
        text = f"Links are not known: {found.problem}"
        parts.append(shapes.text(shapes.MARGIN, y + 8, text, size=11))
        y += _LINE_HEIGHT
    return shapes.document(_title(host), width, y + shapes.MARGIN - 8, parts)


def _title(host: model.Host) -> str:
    number = len(host.devices)
    free = sum(device.is_free for device in host.devices)
    return f"{host.name}: {number} device{'s' * (number != 1)}, {free} free"


def _box(device: model.Device, picture: _Picture) -> str:
    """Draw one device: its model, its address, who has it."""
    fill, stroke = picture.color(device)
    status = picture.status(device)
    whole = f"{device.address} {device.model}, {status}, {device.name}"
    return "\n".join(
        (
            f"<title>{shapes.escape(whole)}</title>",
            shapes.frame(_BOX_WIDTH, _BOX_HEIGHT, fill, stroke),
            shapes.text(8, 16, _short(device.model), size=11, weight="bold"),
            shapes.text(8, 32, device.address, size=11),
            shapes.text(8, 46, _short(status), size=11, fill=stroke),
        )
    )


def _short(text: str) -> str:
    if len(text) <= _CHARACTERS:
        return text
    return text[: _CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _inside(frame: layout.Frame, picture: _Picture, fill: str) -> _Block:
    """Draw what is in a frame: devices, a row a model, then frames."""
    parts: list[str] = []
    centers: dict[str, float] = {}
    width, y = 0.0, 0.0
    rows: dict[str | None, list[model.Device]] = {}
    for device in frame.devices:
        rows.setdefault(device.resource_class, []).append(device)
    for row in rows.values():
        for column, device in enumerate(row):
            x = float(column * (_BOX_WIDTH + _GAP))
            parts.append(shapes.move((_box(device, picture),), x, y))
            centers[device.uuid] = x + _BOX_WIDTH / 2
        width = max(width, len(row) * (_BOX_WIDTH + _GAP) - _GAP)
        y += _BOX_HEIGHT + _GAP
    x, tallest = 0.0, 0.0
    for inner in frame.frames:
        block = _framed(inner, picture, fill)
        parts.append(shapes.move(block.parts, x, y))
        centers.update(
            (uuid, x + center) for uuid, center in block.centers.items()
        )
        x += block.width + _GAP
        tallest = max(tallest, block.height + _GAP)
    return _Block(
        max(width, x - _GAP), y + tallest - _GAP, tuple(parts), centers
    )


def _framed(frame: layout.Frame, picture: _Picture, fill: str) -> _Block:
    block = _inside(frame, picture, shapes.other_fill(fill))
    width, height = block.width + 2 * _GAP, block.height + _HEADER + _GAP
    heading = shapes.text(
        _GAP,
        16,
        frame.name,
        size=11,
        fill=shapes.FAINT,
        weight="bold" if frame.link == links.NODE else "normal",
    )
    return _Block(
        width,
        height,
        (
            shapes.frame(width, height, fill, "#b8c0c8"),
            heading,
            shapes.move(block.parts, _GAP, _HEADER),
        ),
        {uuid: _GAP + center for uuid, center in block.centers.items()},
    )


def _lines(
    found: linked.LinkedDevices,
    groups: Sequence[tuple[links.Link, int, tuple[model.Device, ...]]],
    centers: Mapping[str, float],
) -> Iterator[str]:
    for link, number, devices in groups:
        places = [centers[device.uuid] for device in devices]
        label = f"NVLink {links.name(link)}, group {number}"
        yield shapes.line(label, places, shapes.NVLINK)
    for partition in found.topology.partitions:
        if partition.size > 1:
            places = [
                centers[device.uuid]
                for bit, device in enumerate(found.devices)
                if partition.mask >> bit & 1
            ]
            label = f"partition {partition.id} of {partition.size}"
            yield shapes.line(label, places, shapes.PARTITION)


def _legend(picture: _Picture, width: float) -> Iterator[str]:
    """Say who has which colour, in as many rows as are needed."""
    entries = [
        *picture.colors.items(),
        ("free", _FREE),
        ("neither free nor used", _KEPT),
    ]
    row: list[str] = []
    x = 0.0
    for name, (fill, stroke) in entries:
        needed = 34 + len(name) * shapes.CHARACTER_WIDTH
        if row and x + needed > width - 2 * shapes.MARGIN:
            yield "\n".join(row)
            row, x = [], 0.0
        swatch = (shapes.frame(14, 14, fill, stroke),)
        row += [
            shapes.move(swatch, x, -11),
            shapes.text(x + 20, 0, name, size=11),
        ]
        x += needed
    yield "\n".join(row)
