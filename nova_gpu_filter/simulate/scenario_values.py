# SPDX-License-Identifier: Apache-2.0

"""Reads numbers of a scenario and of the tables that it names."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Final
from typing import TypeVar

_T = TypeVar("_T")

NO_COLUMNS: Final[Mapping[str, str]] = {}


def parse_whole(value: Any) -> int:
    """Read a whole number; 1.0 is one, as some tools write all numbers so.

    :raises ValueError: it is something else.
    """
    try:
        whole = int(value)
        if isinstance(value, str) or whole == value:
            return whole
    except (OverflowError, TypeError, ValueError):
        pass
    try:
        number = float(value)
        if number.is_integer():
            return int(number)
    except (OverflowError, TypeError, ValueError):
        pass
    raise ValueError(f"{value!r} is not a whole number")


def parse_number(value: Any) -> float:
    """Read a number.

    :raises ValueError: it is none.
    """
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None


def read_whole(
    row: Mapping[str, Any], key: str, columns: Mapping[str, str] = NO_COLUMNS
) -> int:
    """Read a whole number of a row.

    :param columns: our name -> name in the file, where they differ.
    :raises ValueError: it is missing or something else; the message names it.
    """
    return _read(row, key, columns, parse_whole)


def read_number(
    row: Mapping[str, Any], key: str, columns: Mapping[str, str] = NO_COLUMNS
) -> float:
    """Read a number of a row; see :func:`read_whole`."""
    return _read(row, key, columns, parse_number)


def describe(key: str, columns: Mapping[str, str]) -> str:
    """Name a value of a row, and its column where that is called otherwise."""
    if key not in columns:
        return key
    return f"{key} (column {columns[key]!r})"


def _read(
    row: Mapping[str, Any],
    key: str,
    columns: Mapping[str, str],
    parse: Callable[[Any], _T],
) -> _T:
    if key not in row:
        raise ValueError(f"no {describe(key, columns)}")
    try:
        return parse(row[key])
    except ValueError as exc:
        raise ValueError(f"{describe(key, columns)}: {exc}") from None
