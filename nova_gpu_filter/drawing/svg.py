# SPDX-License-Identifier: Apache-2.0

"""Writes pictures as SVG, and as a page of HTML.

A row has one device of the columns, and beside it devices that belong to none
of them: a GPU and the NIC of its PCIe switch. So a host of any size is
readable at the width of a page of documentation. Below is a legend of what
there is.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html
import itertools
import textwrap
from typing import Final

from nova_gpu_filter.drawing import picture
from nova_gpu_filter.drawing import short_names
from nova_gpu_filter.drawing import svg_shapes
from nova_gpu_filter.drawing.picture import State

_WIDTH: Final = 830
"""Of a page of the documentation; more only where columns need it."""
_MARGIN: Final = 20
_LEAST_BOX: Final = 330
_LEAST_HALF: Final = 190
"""A row has two devices only if each has so much width."""
_COLUMN: Final = 36
_BOX_HEIGHT: Final = 40
_GAP: Final = 7
_HEADER: Final = 22
_TOP: Final = 96
"""Where rows begin: below the title and the heads of the columns."""
_LINE_HEIGHT: Final = 22
_BOLD_CHARACTER: Final = 7.8
_TITLE_CHARACTER: Final = 12.0
"""Of the heading, which is larger and bold."""

_FAINT: Final = "#5b6570"
_BORDER: Final = "#b8c0c8"
_OUTER: Final = "#eceff2"
_INNER: Final = ("#ffffff", "#f3f5f7")
_FREE: Final = ("#ffffff", "#39424d")
_KEPT: Final = ("#dfe2e6", "#737c86")
_COLORS: Final = (
    ("#c9ddf5", "#3b6ea8"),
    ("#f9dcc0", "#b06a1f"),
    ("#e3d6f2", "#7a5aa6"),
    ("#f6c9cf", "#b03a4c"),
    ("#c8ece8", "#2a827a"),
    ("#f5ecb5", "#93801a"),
    ("#d8dcb8", "#6c7233"),
    ("#e8cfe4", "#99478b"),
)
"""(fill, stroke) of owners, in the order of their first device; again from
the first one where there are more."""


@dataclasses.dataclass
class _Page:
    """What is the same all over one picture, and the parts as they come."""

    colors: Mapping[str, tuple[str, str]]
    """(fill, stroke) by :attr:`picture.Box.color`."""
    in_columns: frozenset[str]
    """Keys of the devices that belong to a column."""
    parts: list[str] = dataclasses.field(default_factory=list)
    middles: dict[str, float] = dataclasses.field(default_factory=dict)
    """The middle of each device's row, by key."""

    def choose_color(self, box: picture.Box) -> tuple[str, str]:
        if box.color is not None:
            return self.colors[box.color]
        return _FREE if box.is_free else _KEPT


def draw_page(shown: picture.Picture) -> str:
    """Write a picture as a page of HTML."""
    # The XML declaration may only stand at the beginning of a file.
    drawn = draw(shown).partition("\n")[2]
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(shown.title)}</title>\n</head>\n"
        f'<body style="margin: 0">\n{drawn}</body>\n</html>\n'
    )


def draw(shown: picture.Picture) -> str:
    """Write a picture; the text of an SVG document."""
    boxes = list(shown.frame.iterate_boxes())
    names = dict.fromkeys(box.color for box in boxes if box.color is not None)
    page = _Page(
        dict(zip(names, itertools.cycle(_COLORS), strict=False)),
        frozenset(key for column in shown.columns for key in column.keys),
    )
    of_columns = _COLUMN * len(shown.columns)
    right = max(_WIDTH - _MARGIN - of_columns, _MARGIN + _LEAST_BOX)
    width = right + of_columns + _MARGIN
    top = _TOP if shown.columns else _TOP - 32
    y = _draw_frame(page, shown.frame, (_MARGIN, right - _GAP), top, 0)
    _draw_columns(page, shown, right)
    y += 26
    for entry in _draw_legend(page, shown, width):
        page.parts.append(svg_shapes.move((entry,), _MARGIN, y))
        y += _LINE_HEIGHT
    characters = int((width - 2 * _MARGIN) / svg_shapes.CHARACTER)
    for note in shown.notes:
        for line in textwrap.wrap(note, characters):
            page.parts.append(
                svg_shapes.write_text(_MARGIN, y, line, fill=_FAINT)
            )
            y += _LINE_HEIGHT - 4
    most = int((width - 2 * _MARGIN) / _TITLE_CHARACTER) - len(shown.summary)
    name = short_names.shorten(shown.name, max(most, 8))
    heading = f"{name}: {shown.summary}"
    return _write_document(shown.title, heading, width, y, page.parts)


def _write_document(
    title: str, heading: str, width: float, height: float, parts: Sequence[str]
) -> str:
    """Put a drawing together: as wide as its place, up to its own size."""
    return "\n".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<svg xmlns="http://www.w3.org/2000/svg" width="100%"'
            f' viewBox="0 0 {width:.0f} {height:.0f}"'
            f' style="max-width: {width:.0f}px"'
            ' font-family="Helvetica, Arial, sans-serif">',
            f"<title>{svg_shapes.escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            svg_shapes.write_text(
                _MARGIN, 34, heading, size=18, weight="bold"
            ),
            *parts,
            "</svg>",
            "",
        )
    )


def _draw_frame(
    page: _Page,
    frame: picture.Frame,
    sides: tuple[float, float],
    y: float,
    depth: int,
) -> float:
    """Draw what is in a frame, one row below the other.

    :param sides: left and right end of the rows.
    :returns: where the next thing begins.
    """
    left, right = sides
    for row in _pair(page, frame.boxes, right - left):
        width = (right - left - _GAP * (len(row) - 1)) / len(row)
        for place, box in enumerate(row):
            x = left + place * (width + _GAP)
            page.parts.append(_draw_box(page, box, x, y, width))
            page.middles[box.key] = y + _BOX_HEIGHT / 2
        y += _BOX_HEIGHT + _GAP
    for inner in frame.frames:
        place = len(page.parts)
        below = _draw_frame(
            page, inner, (left + _GAP, right - _GAP), y + _HEADER, depth + 1
        )
        fill = _INNER[(depth + 1) % 2] if depth else _OUTER
        border = svg_shapes.draw_rectangle(
            right - left, below - y, fill, _BORDER
        )
        heading = svg_shapes.write_text(
            _GAP + 2,
            15,
            svg_shapes.cut(inner.name, right - left - 2 * _GAP),
            fill=_FAINT,
            weight="bold" if inner.is_strong else "normal",
        )
        # Behind what is in it.
        page.parts.insert(place, svg_shapes.move((border, heading), left, y))
        y = below + _GAP
    return y


def _pair(
    page: _Page, boxes: Sequence[picture.Box], width: float
) -> Iterator[list[picture.Box]]:
    """Put devices into rows, at most one of them in any column."""
    if (width - _GAP) / 2 < _LEAST_HALF or len(boxes) < 2:
        yield from ([box] for box in boxes)
        return
    linked = [box for box in boxes if box.key in page.in_columns]
    others = [box for box in boxes if box.key not in page.in_columns]
    for box in linked:
        yield [box, *others[:1]]
        del others[:1]
    for start in range(0, len(others), 2):
        yield others[start : start + 2]


def _draw_box(
    page: _Page, box: picture.Box, x: float, y: float, width: float
) -> str:
    """Draw one device: what it is called, what it is, who has it."""
    fill, stroke = page.choose_color(box)
    after = 20 + len(box.label) * _BOLD_CHARACTER
    text = svg_shapes.cut(box.text, width - after - 6)
    status = svg_shapes.cut(box.status, width - 16)
    parts = (
        f"<title>{svg_shapes.escape(box.tooltip or box.label)}</title>",
        svg_shapes.draw_rectangle(width, _BOX_HEIGHT, fill, stroke),
        svg_shapes.write_text(10, 16, box.label, weight="bold"),
        svg_shapes.write_text(after, 16, text),
        svg_shapes.write_text(10, 33, status),
    )
    return svg_shapes.move(parts, x, y)


def _draw_columns(page: _Page, shown: picture.Picture, left: float) -> None:
    """Draw a line for each column: dashed where a partition is broken, thick
    where it is active."""
    before = None
    is_free = shown.is_free
    for number, column in enumerate(shown.columns):
        x = left + _COLUMN * (number + 0.5)
        if column.kind != before:
            start = x - _COLUMN / 2 + 2
            page.parts.append(
                svg_shapes.write_text(start, _TOP - 30, column.kind)
            )
        before = column.kind
        middles = [page.middles[key] for key in column.keys]
        ends = (x, x, min(middles), max(middles))
        state = State.UNKNOWN
        if column.is_partition:
            state = column.find_state(is_free)
        page.parts += [
            svg_shapes.write_text(x, _TOP - 12, column.name, anchor="middle"),
            svg_shapes.draw_line(ends, state, column.is_active),
            *(
                svg_shapes.draw_dot(x, page.middles[key], is_free[key])
                for key in column.keys
            ),
        ]


def _draw_legend(
    page: _Page, shown: picture.Picture, width: float
) -> Iterator[str]:
    """Say what colours and dots mean, as far as they are there, in as many
    rows as are needed."""
    row: list[str] = []
    x = 0.0
    for mark, name in (*_list_colors(page, shown), *_list_marks(shown)):
        name = svg_shapes.cut(name, width - 2 * _MARGIN - 30)
        needed = 50 + svg_shapes.measure(name)
        if row and x + needed > width - 2 * _MARGIN:
            yield "\n".join(row)
            row, x = [], 0.0
        row += [
            svg_shapes.move((mark,), x, 0),
            svg_shapes.write_text(x + 32, 0, name),
        ]
        x += needed
    if row:
        yield "\n".join(row)


def _list_colors(
    page: _Page, shown: picture.Picture
) -> Iterator[tuple[str, str]]:
    names_by_color: dict[
        tuple[str | None, tuple[str, str]], dict[str, None]
    ] = {}
    for box in shown.frame.iterate_boxes():
        key = (box.color or box.legend, page.choose_color(box))
        names_by_color.setdefault(key, {})[box.legend] = None
    for (_, colors), names in names_by_color.items():
        swatch = svg_shapes.draw_rectangle(16, 14, *colors)
        yield svg_shapes.move((swatch,), 4, -12), " and ".join(names)


def _list_marks(shown: picture.Picture) -> Iterator[tuple[str, str]]:
    is_free = shown.is_free
    linked = {is_free[key] for column in shown.columns for key in column.keys}
    for free, name in (
        (True, "free device"),
        (False, "taken device"),
        (None, "device of the group or partition"),
    ):
        if free in linked:
            yield svg_shapes.draw_dot(12, -4, free), name
    partitions = [column for column in shown.columns if column.is_partition]
    states = {column.find_state(is_free) for column in partitions}
    for state, dots in (
        (State.FREE, (True, True)),
        (State.TAKEN, (False, False)),
        (State.BROKEN, (True, False)),
    ):
        if state in states:
            mark = svg_shapes.draw_line((3, 21, -4, -4), state, False)
            mark += "".join(
                svg_shapes.draw_dot(x, -4, dot, 4)
                for x, dot in zip((3, 21), dots, strict=True)
            )
            yield mark, f"partition {state.value}"
    if any(column.is_active for column in partitions):
        yield (
            svg_shapes.draw_line((0, 24, -4, -4), State.UNKNOWN, True),
            "active partition",
        )
