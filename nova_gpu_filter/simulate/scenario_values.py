# SPDX-License-Identifier: Apache-2.0

"""Reads the values of a scenario and of the tables that it names."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Final
from typing import TypeVar

from nova_gpu_filter.simulate import errors

_T = TypeVar("_T")
_Number = TypeVar("_Number", int, float)

NO_COLUMNS: Final[Mapping[str, str]] = {}
_MAY_BE_ZERO: Final = ("seed", "max_sets_per_tree")


def check_rows(rows: Any, source: str) -> Iterable[Any]:
    """Refuse what stands where there should be a list.

    :param source: what the message calls it.
    :raises BadScenario: it is something else.
    """
    if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
        raise errors.BadScenario(source, "must be a list")
    return rows


def check_mapping(data: Any, source: str) -> Mapping[str, Any]:
    """Refuse what is no mapping.

    :raises BadScenario: it is something else.
    """
    if not isinstance(data, Mapping):
        raise errors.BadScenario(
            source, "must be a mapping of names to values"
        )
    return data


def check_keys(
    data: Mapping[str, Any], known: Collection[str], source: str
) -> None:
    """Refuse names that mean nothing.

    :raises BadScenario: there is one.
    """
    unknown = sorted(map(str, data.keys() - known))
    if unknown:
        raise errors.BadScenario(
            source,
            f"unknown {', '.join(unknown)}; known are"
            f" {', '.join(sorted(known))}",
        )


def read_columns(data: Mapping[str, Any], source: str) -> dict[str, str]:
    """Read which column of a CSV file has what: our name -> its name."""
    columns = check_mapping(data.get("columns") or {}, f"{source}, columns")
    return {str(ours): str(theirs) for ours, theirs in columns.items()}


def read_setting(
    data: Mapping[str, Any], key: str, default: _Number, source: str
) -> _Number:
    """Read a number that may not be below 0, of the type of its default.

    :raises BadScenario: it is none, or not above 0 where it has to be.
    """
    parse = parse_whole if isinstance(default, int) else parse_number
    try:
        value: Any = parse(data.get(key, default))
    except ValueError as exc:
        raise errors.BadScenario(source, f"{key}: {exc}") from exc
    # What is no number is below no number either.
    if not value >= 0 or (not value and key not in _MAY_BE_ZERO):
        raise errors.BadScenario(source, f"{key}: must be above 0")
    return value


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
