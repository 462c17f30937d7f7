# SPDX-License-Identifier: Apache-2.0

"""How Nova reads values inside its options: JSON, and yes or no."""

import json
from typing import Any

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


def load_json(text: str) -> tuple[Any, tuple[str, ...]]:
    """Read JSON.

    :returns: the data, and the keys that stand twice in one object.
    :raises ValueError: it is no JSON; also if it is nested too deep.
    """
    doubled: dict[str, None] = {}

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        doubled.update(
            dict.fromkeys(name for name in names if names.count(name) > 1)
        )
        return dict(pairs)

    try:
        data = json.loads(text, object_pairs_hook=make)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return data, tuple(doubled)


def is_id(wanted: str | None, number: int) -> bool:
    """Whether a vendor or product id is the one that is asked for.

    :param wanted: 4 hexadecimal digits in lower case; None for any.
    """
    return wanted in (None, f"{number:04x}")


def parse_boolean(value: Any) -> bool | None:
    """Read yes or no as oslo.utils does with ``strict``; None: neither."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    return False if text in _FALSE else None
