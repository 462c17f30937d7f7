# SPDX-License-Identifier: Apache-2.0

"""Draws the devices of a host, their links and their owners as SVG.

A row is a device, in the colour of its owner, within frames of its NUMA node
and PCIe switches; on the right a column is an NVLink group or a fabric
partition, with a dot in the row of each device that belongs to it. So a host
of any size is readable at the width of a page of documentation. Below, a
legend of what there is.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html as html_
import itertools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.drawing import shapes
from nova_gpu_filter.drawing import words
from nova_gpu_filter.fleet import layout
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import links

_WIDTH: Final = 830
"""Of a page of the documentation; more only where columns need it."""
_MARGIN: Final = 20
_LEAST_BOX: Final = 330
_COLUMN: Final = 36
_BOX_HEIGHT: Final = 40
_GAP: Final = 7
_HEADER: Final = 22
_TOP: Final = 96
"""Where rows begin: below the title and the heads of the columns."""
_LINE_HEIGHT: Final = 22
_CHARACTER: Final = 7.0
_TITLE_CHARACTER: Final = 12.0
"""Of the heading, which is larger and bold."""
"""Width of a letter of size 12, on the safe side."""

_INK: Final = "#39424d"
"""Of links and partitions: no owner has a colour without hue."""
_FRAME: Final = "#b8c0c8"
_FREE: Final = ("#ffffff", "#39424d")
_KEPT: Final = ("#dfe2e6", "#737c86")
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


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who has a device."""

    label: str
    """What to write: ``infer-2 (resize, source)``."""
    key: str
    """What has one colour: UUIDs of servers, not names."""


Owners: TypeAlias = Mapping[str, Owner]
"""By the UUID of the provider."""


@dataclasses.dataclass(frozen=True)
class _Column:
    """A link group or a fabric partition, and the devices of it."""

    kind: str
    name: str
    uuids: tuple[str, ...]
    is_partition: bool


@dataclasses.dataclass
class _Picture:
    """What is the same all over one picture, and the rows as they come."""

    owners: Owners
    colors: Mapping[str, tuple[str, str]]
    """(fill, stroke) by the key of the owner."""
    parts: list[str] = dataclasses.field(default_factory=list)
    middles: dict[str, float] = dataclasses.field(default_factory=dict)
    """The middle of each device's row, by UUID."""

    def color(self, device: model.Device) -> tuple[str, str]:
        owner = self.owners.get(device.uuid)
        if owner is not None:
            return self.colors[owner.key]
        return _FREE if device.is_free else _KEPT

    def status(self, device: model.Device) -> str:
        owner = self.owners.get(device.uuid)
        return device.state.value if owner is None else owner.label


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
    keys = dict.fromkeys(
        owners[device.uuid].key
        for device in host.devices
        if device.uuid in owners
    )
    colors = dict(zip(keys, itertools.cycle(_OWNERS), strict=False))
    picture = _Picture(owners, colors)
    found = linked.LinkedDevices.of(host.devices)
    columns = [*_groups(host), *_partitions(found)]
    right = max(
        _WIDTH - _MARGIN - _COLUMN * len(columns), _MARGIN + _LEAST_BOX
    )
    width = right + _COLUMN * len(columns) + _MARGIN
    y = _rows(
        picture,
        layout.frames(host.devices),
        (_MARGIN, right - _GAP),
        _TOP if columns else _TOP - 32,
        "#eceff2",
    )
    is_free = {device.uuid: device.is_free for device in host.devices}
    _draw_columns(picture, columns, right, is_free)
    y += 26
    for entry in _legend(picture, host, columns, width):
        picture.parts.append(shapes.move((entry,), _MARGIN, y))
        y += _LINE_HEIGHT
    if found.problem is not None:
        text = f"Links are not known: {found.problem}"
        picture.parts.append(shapes.text(_MARGIN, y, text, size=12))
        y += _LINE_HEIGHT
    name = host.name
    room = int((width - 2 * _MARGIN) / _TITLE_CHARACTER)
    name = words.shorten(name, max(room - len(_counts(host)), 8))
    return _document(
        _title(host), name + _counts(host), width, y, picture.parts
    )


def _document(
    title: str, heading: str, width: float, height: float, parts: Sequence[str]
) -> str:
    """Put a drawing together: as wide as there is room, up to its own size."""
    return "\n".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<svg xmlns="http://www.w3.org/2000/svg" width="100%"'
            f' viewBox="0 0 {width:.0f} {height:.0f}"'
            f' style="max-width: {width:.0f}px"'
            ' font-family="Helvetica, Arial, sans-serif">',
            f"<title>{shapes.escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            shapes.text(_MARGIN, 34, heading, size=18, weight="bold"),
            *parts,
            "</svg>",
            "",
        )
    )


def _title(host: model.Host) -> str:
    return host.name + _counts(host)


def _counts(host: model.Host) -> str:
    number = len(host.devices)
    free = sum(device.is_free for device in host.devices)
    status = f", {host.status}" if host.obstacles else ""
    plural = "s" * (number != 1)
    return f": {number} device{plural}, {free} free{status}"


def _rows(
    picture: _Picture,
    frame: layout.Frame,
    sides: tuple[float, float],
    y: float,
    fill: str,
) -> float:
    """Draw what is in a frame, one below the other.

    :param sides: left and right end of the rows.
    :returns: where the next thing begins.
    """
    for device in frame.devices:
        picture.parts.append(_box(picture, device, sides, y))
        picture.middles[device.uuid] = y + _BOX_HEIGHT / 2
        y += _BOX_HEIGHT + _GAP
    for inner in frame.frames:
        place = len(picture.parts)
        below = _rows(
            picture,
            inner,
            (sides[0] + _GAP, sides[1] - _GAP),
            y + _HEADER,
            shapes.other_fill(fill),
        )
        # Behind what is in it.
        border = shapes.frame(sides[1] - sides[0], below - y, fill, _FRAME)
        heading = shapes.text(
            _GAP + 2,
            15,
            inner.name,
            fill=shapes.FAINT,
            weight="bold" if inner.link == links.NODE else "normal",
        )
        picture.parts.insert(
            place, shapes.move((border, heading), sides[0], y)
        )
        y = below + _GAP
    return y


def _box(
    picture: _Picture,
    device: model.Device,
    sides: tuple[float, float],
    y: float,
) -> str:
    """Draw one device: its address, its model, who has it."""
    fill, stroke = picture.color(device)
    status = picture.status(device)
    width = sides[1] - sides[0]
    whole = f"{device.address} {device.model}, {status}, {device.name}"
    return shapes.move(
        (
            f"<title>{shapes.escape(whole)}</title>",
            shapes.frame(width, _BOX_HEIGHT, fill, stroke),
            shapes.text(10, 16, device.address, weight="bold"),
            shapes.text(112, 16, _cut(device.model, width - 122)),
            shapes.text(10, 33, _cut(status, width - 20), fill=shapes.TEXT),
        ),
        sides[0],
        y,
    )


def _cut(text: str, width: float) -> str:
    return words.shorten(text, max(int(width / _CHARACTER), 1))


def _groups(host: model.Host) -> Iterator[_Column]:
    for link, number, devices in layout.nvlink_groups(host.devices):
        if len(devices) > 1:
            yield _Column(
                links.name(link),
                str(number),
                tuple(device.uuid for device in devices),
                False,
            )


def _partitions(found: linked.LinkedDevices) -> Iterator[_Column]:
    for partition in found.topology.partitions:
        if partition.size > 1:
            yield _Column(
                "fabric",
                f"{partition.id}/{partition.size}",
                tuple(
                    device.uuid
                    for bit, device in enumerate(found.devices)
                    if partition.mask >> bit & 1
                ),
                True,
            )


def _draw_columns(
    picture: _Picture,
    columns: Sequence[_Column],
    left: float,
    is_free: Mapping[str, bool],
) -> None:
    """Draw a line for each column: dashed where a partition is not whole."""
    before = None
    for number, column in enumerate(columns):
        x = left + _COLUMN * (number + 0.5)
        parts = []
        if column.kind != before:
            parts.append(
                shapes.text(x - _COLUMN / 2 + 2, _TOP - 30, column.kind)
            )
        before = column.kind
        parts.append(shapes.text(x, _TOP - 12, column.name, anchor="middle"))
        middles = [picture.middles[uuid] for uuid in column.uuids]
        dash = ' stroke-dasharray="3 4"' if _is_broken(column, is_free) else ""
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{min(middles):.1f}"'
            f' y2="{max(middles):.1f}" stroke="{_INK}" stroke-width="2"'
            f"{dash}/>"
        )
        parts += [
            _dot(x, picture.middles[uuid], is_free[uuid])
            for uuid in column.uuids
        ]
        picture.parts += parts


def _is_broken(column: _Column, is_free: Mapping[str, bool]) -> bool:
    """Whether some, but not all devices of a partition are free."""
    return (
        column.is_partition
        and len({is_free[uuid] for uuid in column.uuids}) > 1
    )


def _dot(x: float, y: float, is_free: bool) -> str:
    fill = "#ffffff" if is_free else _INK
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}"'
        f' stroke="{_INK}" stroke-width="2"/>'
    )


def _legend(
    picture: _Picture,
    host: model.Host,
    columns: Sequence[_Column],
    width: float,
) -> Iterator[str]:
    """Say what colours and dots mean, as far as they are there, in as many
    rows as are needed."""
    row: list[str] = []
    x = 0.0
    for mark, name in _entries(picture, host, columns):
        name = _cut(name, width - 2 * _MARGIN - 24)
        needed = 40 + len(name) * _CHARACTER
        if row and x + needed > width - 2 * _MARGIN:
            yield "\n".join(row)
            row, x = [], 0.0
        row += [
            shapes.move((mark,), x, 0),
            shapes.text(x + 22, 0, name),
        ]
        x += needed
    yield "\n".join(row)


def _entries(
    picture: _Picture, host: model.Host, columns: Sequence[_Column]
) -> Iterator[tuple[str, str]]:
    seen: dict[str, tuple[tuple[str, str], dict[str, None]]] = {}
    for device in host.devices:
        owner = picture.owners.get(device.uuid)
        key = device.state.value if owner is None else owner.key
        _, names = seen.setdefault(key, (picture.color(device), {}))
        names[picture.status(device)] = None
    for colors, names in seen.values():
        swatch = shapes.move((shapes.frame(14, 14, *colors),), 0, -12)
        yield swatch, " and ".join(names)
    if not columns:
        return
    is_free = {device.uuid: device.is_free for device in host.devices}
    dots = {is_free[uuid] for column in columns for uuid in column.uuids}
    for free in sorted(dots, reverse=True):
        yield _dot(7, -4, free), "free" if free else "not free"
    partitions = [column for column in columns if column.is_partition]
    line = f'<line x1="0" x2="16" y1="-4" y2="-4" stroke="{_INK}"'
    line += ' stroke-width="2"'
    for broken, text in (
        (False, "partition, all of it free or taken"),
        (True, "partition, broken: a part of it is free"),
    ):
        if any(_is_broken(one, is_free) is broken for one in partitions):
            dash = ' stroke-dasharray="3 4"' if broken else ""
            yield f"{line}{dash}/>", text
