# SPDX-License-Identifier: Apache-2.0

"""Writes text from outside so that it stays on its line.

A host name, the name of a driver or of a server can hold a line feed, which
would begin a line of its own in a configuration file, or an escape sequence
that a terminal obeys.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import TextIO
import unicodedata

MOST = 4096
"""Characters of one text that are kept: as long as a path can be."""
_FEW = 4
"""Names of a list that are told."""

# Control and format characters (terminals and the direction of text), halves
# of surrogate pairs, separators of lines and of paragraphs.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def escape(text: str, keep: str = "") -> str:
    r"""Write what is no visible character as in Python: ``\x1b``, ``\n``.

    :param keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _ESCAPED and char not in keep
        else char
        for char in text
    )


def shorten(text: str) -> str:
    """Escape a text, and cut off what is beyond :data:`MOST`."""
    return escape(text if len(text) <= MOST else text[:MOST] + " ...")


def join_lines(text: str) -> str:
    """Write a message of several lines in one."""
    return escape(" ".join(text.split()))


def list_few(names: Sequence[str], separator: str = ", ") -> str:
    """List the first few names, and say how many more there are."""
    shown = separator.join(names[:_FEW])
    more = len(names) - _FEW
    return f"{shown} and {more} more" if more > 0 else shown


def escape_fields(instance: Any) -> None:
    """Escape every text of a dataclass, also of a frozen one.

    For ``__post_init__``, as :class:`OneLineTexts` has it.
    """
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, str):
            if value.isprintable() and len(value) <= MOST:
                continue
            clean: object = shorten(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            clean = tuple(map(shorten, value))
        else:
            continue
        object.__setattr__(instance, field.name, clean)


class OneLineTexts:
    """Base of dataclasses that hold texts from outside: each on one line."""

    __slots__ = ()

    def __post_init__(self) -> None:
        escape_fields(self)


class Stream:
    """A text stream that lets no control character through to a terminal.

    Line feeds and tabs are kept.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, escaped."""
        self._stream.write(escape(text, keep="\n\t"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
