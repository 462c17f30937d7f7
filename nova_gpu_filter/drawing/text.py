# SPDX-License-Identifier: Apache-2.0

"""Writes pictures as text, for a terminal of any encoding.

A row is a device, a column is a link group or a fabric partition::

    hgx-1: 4 devices, 1 free
                             NV18  fabric
                              0    0/4  1/2  2/2
    NUMA node 0
      0000:1b:00.0  train-1   #     #    #
      0000:43:00.0  free      o     o    o
    NUMA node 1               |     |
      0000:9d:00.0  train-1   #     #         #
      0000:c3:00.0  train-2   #     #         #
    partitions                      /    /    #
    # taken, o free, / broken: only a part is free
    below fabric: partition id/devices
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools
from typing import Final

from nova_gpu_filter.drawing import picture
from nova_gpu_filter.drawing import short_names
from nova_gpu_filter.drawing.picture import State

_MARKS: Final = {
    State.TAKEN: "#",
    State.FREE: "o",
    State.BROKEN: "/",
    State.UNKNOWN: "",
}
_BELONGS: Final = "#"
"""A device of which it is not known whether it is free."""
_BETWEEN: Final = "|"
_ACTIVE: Final = "*"
_INDENT: Final = "  "
_OMITTED: Final = "..."
_LONGEST: Final = 40
"""Columns of a name, so that a row fits a terminal; more only where two owners
could not be told apart."""


def draw(shown: picture.Picture) -> str:
    """Write a picture: lines, without a newline at the end."""
    rows = _write_rows(shown.frame)
    width = _measure_widest(text for text, _ in rows)
    columns = shown.columns
    names = _align(columns)
    lines = [shown.title]
    if columns:
        width = max(width, len(_PARTITIONS))
        lines.append(" " * width + _write_kinds(columns, names))
        lines.append(_INDENT.join([" " * width, *names]))
    is_free = shown.is_free
    for place, (text, _) in enumerate(rows):
        cells = [
            _mark(column, rows, place, is_free).center(len(name))
            for column, name in zip(columns, names, strict=True)
        ]
        lines.append(_INDENT.join([_pad(text, width), *cells]))
    if columns:
        cells = [_mark_partition(column, is_free) for column in columns]
        if any(cells):
            centered = [
                cell.center(len(name))
                for cell, name in zip(cells, names, strict=True)
            ]
            lines.append(_INDENT.join([_PARTITIONS.ljust(width), *centered]))
        lines += _write_legend(shown, cells)
    for note in shown.notes:
        lines += ["", note]
    return "\n".join(line.rstrip() for line in lines)


_PARTITIONS: Final = "partitions"

_Row = tuple[str, str | None]
"""A text, and the key of the device it is about; None for a heading."""


def _write_rows(frame: picture.Frame) -> list[_Row]:
    boxes = list(frame.iterate_boxes())
    of_labels = _measure_widest(_cut(box.label) for box in boxes)
    of_texts = _measure_widest(_cut(box.text) for box in boxes)
    of_status = _measure_names({box.status for box in boxes})
    deepest = _count_depth(frame)

    def make_rows(inner: picture.Frame, depth: int) -> Iterator[_Row]:
        for box in inner.boxes:
            # Whatever the frame, all that follows the label is in line.
            room = of_labels + len(_INDENT) * (deepest - depth)
            parts = [_pad(_cut(box.label), room)]
            if of_texts:
                parts.append(_pad(_cut(box.text), of_texts))
            parts.append(_cut(box.status, of_status))
            yield _INDENT * depth + _INDENT.join(parts).rstrip(), box.key
        for nested in inner.frames:
            yield _INDENT * depth + nested.name, None
            yield from make_rows(nested, depth + 1)

    return list(make_rows(frame, 0))


def _measure_widest(texts: Iterable[str]) -> int:
    return max(map(short_names.count_columns, texts), default=0)


def _measure_names(names: Collection[str]) -> int:
    """Return how many columns keep names apart that differ in their middle."""
    longest = _measure_widest(names)
    return next(
        width
        for width in range(_LONGEST, max(_LONGEST, longest) + 1)
        if len({_cut(name, width) for name in names}) == len(names)
    )


def _cut(text: str, width: int = _LONGEST) -> str:
    return short_names.shorten(text, width, _OMITTED)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - short_names.count_columns(text))


def _count_depth(frame: picture.Frame) -> int:
    return max((1 + _count_depth(inner) for inner in frame.frames), default=0)


def _align(columns: Sequence[picture.Column]) -> list[str]:
    """Make the names of columns as wide as their kind needs above them."""
    return [
        column.name
        if column.is_partition
        else column.name.center(len(column.kind))
        for column in columns
    ]


def _write_kinds(
    columns: Sequence[picture.Column], names: Sequence[str]
) -> str:
    """Write the kinds above the names of the columns."""
    line = ""
    both = zip(columns, names, strict=True)
    for kind, alike in itertools.groupby(both, lambda pair: pair[0].kind):
        width = sum(len(_INDENT) + len(name) for _, name in alike)
        line += f"{_INDENT}{kind}".ljust(width)
    return line


def _mark(
    column: picture.Column,
    rows: Sequence[_Row],
    place: int,
    is_free: dict[str, bool | None],
) -> str:
    """Say whether the device of a row belongs to a column, or stands between
    some that do."""
    key = rows[place][1]
    if key in column.keys:
        return _MARKS[State.FREE] if is_free[key] else _BELONGS
    above = any(other in column.keys for _, other in rows[:place])
    below = any(other in column.keys for _, other in rows[place:])
    return _BETWEEN if above and below else ""


def _mark_partition(
    column: picture.Column, is_free: dict[str, bool | None]
) -> str:
    if not column.is_partition:
        return ""
    active = _ACTIVE if column.is_active else ""
    return _MARKS[column.find_state(is_free)] + active


def _write_legend(
    shown: picture.Picture, cells: Sequence[str]
) -> Iterator[str]:
    """Explain the marks that are there."""
    is_free = shown.is_free
    states = {is_free[key] for column in shown.columns for key in column.keys}
    marks = "".join(cells)
    entries = []
    if None in states:
        entries.append(f"{_BELONGS} belongs to the group or partition")
    for state, is_there in (
        (State.TAKEN, False in states),
        (State.FREE, True in states),
        (State.BROKEN, _MARKS[State.BROKEN] in marks),
    ):
        if is_there:
            entries.append(f"{_MARKS[state]} {state.value}")
    if _ACTIVE in marks:
        entries.append(f"{_ACTIVE} active")
    yield ", ".join(entries)
    kinds = {column.kind for column in shown.columns if column.is_partition}
    for kind in sorted(kinds):
        yield f"below {kind}: partition id/devices"
