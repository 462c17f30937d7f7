# SPDX-License-Identifier: Apache-2.0

"""Names that are too long for their place."""

from collections.abc import Callable
import itertools
from typing import Final
import unicodedata

_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


def count_columns(text: str) -> int:
    """Count the columns that a text takes in a terminal."""
    return sum(map(_count_columns_of, text))


def _count_columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 1 + (unicodedata.east_asian_width(character) in "WF")


def shorten(
    text: str,
    most: float,
    mark: str = _ELLIPSIS,
    measure: Callable[[str], float] = count_columns,
) -> str:
    """Leave something out of the middle of a name.

    Its beginning and its end tell names apart: ``train-large...-42 (resize,
    source)``. What stands in brackets at the end is kept if there is room.

    :param most: how wide it may be.
    :param mark: stands for what is left out.
    :param measure: returns how wide a text is, or a character of it.
    """
    if measure(text) <= most:
        return text
    remark = text.rfind(" (") if text.endswith(")") else -1
    kept = measure(text[remark:]) if remark >= 0 else 0
    if kept > most / 2:
        kept = 0
    rest = most - measure(mark)
    end = kept + (rest - kept) // 3
    head = _fit(text, rest - end, measure)
    tail = _fit(text[::-1], end, measure)[::-1]
    # Four dots in a row would be those of the mark and one of the name.
    return head.rstrip(".") + mark + tail.lstrip(".")


def _fit(text: str, width: float, measure: Callable[[str], float]) -> str:
    """Return as much of the beginning of a text as fits."""
    ends = itertools.accumulate(map(measure, text))
    return text[: sum(1 for _ in itertools.takewhile(width.__ge__, ends))]
