# SPDX-License-Identifier: Apache-2.0

"""The shapes that drawings of hosts are made of, as SVG."""

from collections.abc import Sequence
import dataclasses
import html
from typing import Final
from typing import Generic
from typing import TypeVar

TEXT: Final = "#1f2429"
FAINT: Final = "#5b6570"
NVLINK: Final = "#4b8b3b"
PARTITION: Final = "#7a5aa6"
MARGIN: Final = 24
CHARACTER_WIDTH: Final = 6.2
"""Of a text of size 11, on average."""

_Name = TypeVar("_Name")


@dataclasses.dataclass(frozen=True)
class Block(Generic[_Name]):
    """A frame and what is in it, placed relative to its own corner."""

    width: float
    height: float
    parts: tuple[str, ...]
    centers: dict[_Name, float]
    """The middle of each device's box, from the left of the frame."""


def document(
    title: str, width: float, height: float, parts: Sequence[str]
) -> str:
    """Put a drawing together, below its title; the text of a document."""
    return "\n".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<svg xmlns="http://www.w3.org/2000/svg"'
            f' width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}"'
            ' font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            text(MARGIN, 36, title, size=18, weight="bold"),
            *parts,
            "</svg>",
            "",
        )
    )


def escape(text: str) -> str:
    """Make any text one that XML can carry."""
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
    return html.escape(printable, quote=False).replace('"', "&quot;")


def text(
    x: float,
    y: float,
    text: str,
    size: int = 12,
    fill: str = TEXT,
    anchor: str = "start",
    weight: str = "normal",
) -> str:
    """Write one line.

    :param x: where it begins, or what ``anchor`` says.
    :param y: the line that letters stand on.
    """
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"'
        f' text-anchor="{anchor}" font-weight="{weight}">{escape(text)}'
        "</text>"
    )


def move(parts: Sequence[str], x: float, y: float) -> str:
    """Move shapes to a place."""
    inside = "\n".join(parts)
    return f'<g transform="translate({x:.1f},{y:.1f})">\n{inside}\n</g>'


def frame(width: float, height: float, fill: str, stroke: str) -> str:
    """Draw a rectangle with round corners at the origin."""
    return (
        f'<rect width="{width:.1f}" height="{height:.1f}" rx="6"'
        f' fill="{fill}" stroke="{stroke}"/>'
    )


def line(label: str, places: Sequence[float], color: str) -> str:
    """Draw a line with a dot at each place, and its name on the left."""
    ends = (
        f'<line x1="{min(places):.1f}" x2="{max(places):.1f}" y1="0" y2="0"'
        f' stroke="{color}" stroke-width="2"/>'
    )
    dots = (
        f'<circle cx="{place:.1f}" cy="0" r="5" fill="{color}"/>'
        for place in places
    )
    return "\n".join((text(MARGIN, 4, label, size=11), ends, *dots))


def other_fill(fill: str) -> str:
    """Alternate, so that a frame in a frame can be told."""
    return "#ffffff" if fill != "#ffffff" else "#f3f5f7"
