# SPDX-License-Identifier: Apache-2.0

"""Names for which there is too little room."""

from typing import Final

_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


def shorten(text: str, most: int, mark: str = _ELLIPSIS) -> str:
    """Leave something out of the middle of a name.

    Its beginning and its end tell names apart: ``train-large...-42 (resize,
    source)``. What stands in brackets at the end is kept if there is room.

    :param most: characters.
    :param mark: stands for what is left out.
    """
    if len(text) <= most:
        return text
    remark = text.rfind(" (") if text.endswith(")") else -1
    kept = len(text) - remark if remark >= 0 else 0
    if kept > most // 2:
        kept = 0
    rest = most - len(mark)
    end = kept + (rest - kept) // 3
    return text[: max(rest - end, 0)] + mark + text[len(text) - end :]
