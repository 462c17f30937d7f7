# SPDX-License-Identifier: Apache-2.0

"""The shapes that a picture in SVG is made of, each as text."""

from collections.abc import Sequence
import html
from typing import Final

from nova_gpu_filter.drawing import short_names
from nova_gpu_filter.drawing.picture import State

CHARACTER: Final = 7.0
"""Width of a letter of size 12, on the safe side."""
_WIDE: Final = frozenset("ABCDEGHKMNOQRUVWXYwm@%&")
_WIDE_CHARACTER: Final = 12.0
"""Of one of these, and of one that takes two columns in a terminal."""

_TEXT: Final = "#1f2429"
_INK: Final = "#39424d"
"""Of links and partitions: no owner has a colour without hue."""


def draw_line(
    ends: tuple[float, float, float, float], state: State, is_active: bool
) -> str:
    """Draw a line.

    :param ends: x of both ends, then y of both.
    """
    x1, x2, y1, y2 = ends
    dash = ' stroke-dasharray="3 4"' if state is State.BROKEN else ""
    return (
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
        f' stroke="{_INK}" stroke-width="{5 if is_active else 2}"{dash}/>'
    )


def draw_dot(x: float, y: float, is_free: bool | None, radius: int = 6) -> str:
    """Draw a dot for a device.

    :param is_free: None where that is not known.
    """
    fill = "#ffffff" if is_free else _INK
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}"'
        f' stroke="{_INK}" stroke-width="2"/>'
    )


def draw_rectangle(width: float, height: float, fill: str, stroke: str) -> str:
    """Draw a rectangle with round corners at the origin."""
    return (
        f'<rect width="{width:.1f}" height="{height:.1f}" rx="6"'
        f' fill="{fill}" stroke="{stroke}"/>'
    )


def move(parts: Sequence[str], x: float, y: float) -> str:
    """Move shapes to a place."""
    inside = "\n".join(parts)
    return f'<g transform="translate({x:.1f},{y:.1f})">\n{inside}\n</g>'


def write_text(
    x: float,
    y: float,
    text: str,
    size: int = 12,
    fill: str = _TEXT,
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


def cut(text: str, width: float) -> str:
    """Shorten a text to a width in units of the drawing."""
    return short_names.shorten(text, width, measure=measure)


def measure(text: str) -> float:
    """Estimate the width of a text of size 12, on the safe side."""
    return sum(
        _WIDE_CHARACTER
        if character in _WIDE or short_names.count_columns(character) > 1
        else CHARACTER
        for character in text
    )


def escape(text: str) -> str:
    """Make any text one that XML can carry."""
    visible = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
    return html.escape(visible, quote=False).replace('"', "&quot;")
