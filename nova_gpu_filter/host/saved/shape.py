# SPDX-License-Identifier: Apache-2.0

"""Checks that data read from JSON have the form that their reader expects.

A form is checked as a whole before anything is made of the data, so that an
error names the field. What is there beside the form is passed over.
"""

import abc
from collections.abc import Callable
from collections.abc import Mapping
import re
from typing import Any

from nova_gpu_filter import printable

_MOST = 1 << 16
"""Elements of a list: as many as there are functions in a PCI domain."""


class Shape(abc.ABC):
    """A form of data."""

    @abc.abstractmethod
    def check(self, data: Any, where: str) -> None:
        """Check data.

        :param where: the field that they are of, for messages.
        :raises ValueError: they have another form; the message names the
            field.
        """


def _fail(where: str, data: Any, what: str) -> ValueError:
    shown = repr(data)
    if len(shown) > 60:
        shown = f"{shown[:60]} ..."
    return ValueError(printable.one_line(f"{where}: {shown} is no {what}"))


class Text(Shape):
    """A text, of which a function can make something."""

    def __init__(self, read: Callable[[str], Any] = str) -> None:
        self._read = read

    def check(self, data: Any, where: str) -> None:
        """Check that it is a text, of no more than a path can have."""
        if not isinstance(data, str):
            raise _fail(where, data, "text")
        if len(data) > printable.MOST:
            raise ValueError(f"{where}: longer than {printable.MOST}")
        try:
            self._read(data)
        except ValueError as error:
            raise ValueError(
                printable.one_line(f"{where}: {str(error)[:200]}")
            ) from None


def hexadecimal(text: str) -> int:
    """Read an id or a class: 1 to 8 hexadecimal digits.

    :raises ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        raise ValueError(f"{text!r} is no hexadecimal number")
    return int(text, 16)


class Number(Shape):
    """A number of 0 to a bound; without one, what 64 bits hold."""

    def __init__(self, most: int = (1 << 64) - 1) -> None:
        self._most = most

    def check(self, data: Any, where: str) -> None:
        """Check that it is a whole number within the bound."""
        if not isinstance(data, int) or isinstance(data, bool):
            raise _fail(where, data, "whole number")
        if not 0 <= data <= self._most:
            raise ValueError(f"{where}: not between 0 and {self._most}")


class Flag(Shape):
    """True or false."""

    def check(self, data: Any, where: str) -> None:
        """Check that it is one of the two."""
        if not isinstance(data, bool):
            raise _fail(where, data, "true or false")


class Nullable(Shape):
    """What may also be null."""

    def __init__(self, inner: Shape) -> None:
        self._inner = inner

    def check(self, data: Any, where: str) -> None:
        """Check it unless it is null."""
        if data is not None:
            self._inner.check(data, where)


class Many(Shape):
    """A list."""

    def __init__(self, inner: Shape) -> None:
        self._inner = inner

    def check(self, data: Any, where: str) -> None:
        """Check every element."""
        if not isinstance(data, list):
            raise _fail(where, data, "list")
        if len(data) > _MOST:
            raise ValueError(f"{where}: more than {_MOST} elements")
        for index, element in enumerate(data):
            self._inner.check(element, f"{where}[{index}]")


class Map(Shape):
    """An object whose keys are data, too."""

    def __init__(self, key: Shape, value: Shape) -> None:
        self._key = key
        self._value = value

    def check(self, data: Any, where: str) -> None:
        """Check every key and value."""
        if not isinstance(data, dict):
            raise _fail(where, data, "object")
        for key, value in data.items():
            self._key.check(key, where)
            self._value.check(value, f"{where}[{key!r}]")


class Record(Shape):
    """An object with known fields; others are passed over.

    :param later: fields that came with later versions, and may be missing.
    """

    def __init__(
        self,
        fields: Mapping[str, Shape],
        later: Mapping[str, Shape] | None = None,
    ) -> None:
        self._fields = fields
        self._later = later or {}

    def check(self, data: Any, where: str) -> None:
        """Check every field."""
        if not isinstance(data, dict):
            raise _fail(where, data, "object")
        for name, inner in self._fields.items():
            field = f"{where}.{name}" if where else name
            if name not in data:
                raise ValueError(f"{field} is missing")
            inner.check(data[name], field)
        for name, inner in self._later.items():
            if name in data:
                inner.check(data[name], f"{where}.{name}" if where else name)
