# SPDX-License-Identifier: Apache-2.0

"""Reads the sections of a scenario: names and their values."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Final

from nova_gpu_filter.simulate import errors

_MAY_BE_ZERO: Final = ("seed", "max_sets_per_tree")


def check_mapping(data: Any, source: str) -> Mapping[str, Any]:
    """Refuse what is no mapping.

    :raises BadScenario: it is something else.
    """
    if not isinstance(data, Mapping):
        raise errors.BadScenario(
            source=source, problem="must be a mapping of names to values"
        )
    return data


def check_keys(
    data: Mapping[str, Any], known: frozenset[str], source: str
) -> None:
    """Refuse names that mean nothing.

    :raises BadScenario: there is one.
    """
    unknown = sorted(map(str, data.keys() - known))
    if unknown:
        raise errors.BadScenario(
            source=source,
            problem=f"unknown {', '.join(unknown)}; known are"
            f" {', '.join(sorted(known))}",
        )


def read_number(
    data: Mapping[str, Any],
    key: str,
    type_: Callable[[Any], Any],
    default: Any,
    source: str,
) -> Any:
    """Read a number that may not be below 0.

    :param type_: reads it, or raises ValueError.
    :raises BadScenario: it is none, or not above 0 where it has to be.
    """
    try:
        value = type_(data.get(key, default))
    except (OverflowError, TypeError, ValueError) as exc:
        raise errors.BadScenario(
            source=source, problem=f"{key}: {exc}"
        ) from exc
    # What is no number is below no number either.
    if not value >= 0 or (not value and key not in _MAY_BE_ZERO):
        raise errors.BadScenario(
            source=source, problem=f"{key}: must be above 0"
        )
    return value


def read_columns(data: Mapping[str, Any], source: str) -> dict[str, str]:
    """Read which column of a CSV file has what: our name -> its name."""
    columns = check_mapping(data.get("columns") or {}, f"{source}, columns")
    return {str(ours): str(theirs) for ours, theirs in columns.items()}
