# SPDX-License-Identifier: Apache-2.0

"""The forms of data in JSON: checks, reads and writes them.

A form is checked as a whole before anything is made of the data, so that an
error names the field. What is there beside the form is passed over.
"""

import abc
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
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

    def load(self, data: Any) -> Any:
        """Make of data that were checked what they stand for."""
        return data

    def dump(self, value: Any) -> Any:
        """Give what stands for a value, for ``json.dumps``."""
        return value


def _fail(where: str, data: Any, what: str) -> ValueError:
    shown = repr(data)
    if len(shown) > 60:
        shown = f"{shown[:60]} ..."
    return ValueError(printable.join_lines(f"{where}: {shown} is no {what}"))


class Text(Shape):
    """A text, of which a function can make something, and back.

    :param most: characters that it may have; by default those of a path.
    """

    def __init__(
        self,
        read: Callable[[str], Any] = str,
        write: Callable[[Any], str] = str,
        most: int = printable.MOST,
    ) -> None:
        self._read = read
        self._write = write
        self._most = most

    def check(self, data: Any, where: str) -> None:
        """Check that it is a text, and not too long."""
        if not isinstance(data, str):
            raise _fail(where, data, "text")
        if len(data) > self._most:
            raise ValueError(f"{where}: longer than {self._most}")
        try:
            self._read(data)
        except ValueError as error:
            raise ValueError(
                printable.join_lines(f"{where}: {str(error)[:200]}")
            ) from None

    def load(self, data: Any) -> Any:
        """Read the text."""
        return self._read(data)

    def dump(self, value: Any) -> Any:
        """Write the text."""
        return self._write(value)


def parse_hexadecimal(text: str) -> int:
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

    def load(self, data: Any) -> Any:
        """Load it unless it is null."""
        return None if data is None else self._inner.load(data)

    def dump(self, value: Any) -> Any:
        """Dump it unless it is None."""
        return None if value is None else self._inner.dump(value)


class Many(Shape):
    """A list, of which a collection is made; of a set it is sorted.

    :param least: elements that it must have.
    """

    def __init__(
        self,
        inner: Shape,
        make: Callable[[Iterable[Any]], Collection[Any]] = tuple,
        least: int = 0,
    ) -> None:
        self._inner = inner
        self._make = make
        self._least = least

    def check(self, data: Any, where: str) -> None:
        """Check every element."""
        if not isinstance(data, list):
            raise _fail(where, data, "list")
        if len(data) > _MOST:
            raise ValueError(f"{where}: more than {_MOST} elements")
        if len(data) < self._least:
            raise ValueError(f"{where}: fewer than {self._least} elements")
        for index, element in enumerate(data):
            self._inner.check(element, f"{where}[{index}]")

    def load(self, data: Any) -> Any:
        """Load every element."""
        return self._make(map(self._inner.load, data))

    def dump(self, value: Any) -> Any:
        """Dump every element."""
        elements = sorted(value) if isinstance(value, frozenset) else value
        return [self._inner.dump(element) for element in elements]


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

    def load(self, data: Any) -> Any:
        """Load every key and value."""
        return {
            self._key.load(key): self._value.load(value)
            for key, value in data.items()
        }

    def dump(self, value: Any) -> Any:
        """Dump every key and value."""
        return {
            self._key.dump(key): self._value.dump(one)
            for key, one in value.items()
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    attribute: str | None
    """Of the object that the record stands for, ``chip.isa`` of an object in
    it; None: whoever reads and writes the record does this field."""
    shape: Shape | None = None
    """None: the field is derived of others, and only written."""
    may_be_missing: bool = False
    """Whether it came with a later version."""


class Record(Shape):
    """An object with known fields; others are passed over.

    :param make: what the object is made with, of attributes by their names.
    :param fields: keyed by name; a shape alone has the attribute of that name.
    """

    def __init__(
        self, make: Callable[..., Any], fields: Mapping[str, Shape | Field]
    ) -> None:
        self._make = make
        self._fields = {
            name: Field(name, one) if isinstance(one, Shape) else one
            for name, one in fields.items()
        }

    def check(self, data: Any, where: str) -> None:
        """Check every field."""
        if not isinstance(data, dict):
            raise _fail(where, data, "object")
        for name, field in self._fields.items():
            place = f"{where}.{name}" if where else name
            if field.shape is None:
                continue
            if name in data:
                field.shape.check(data[name], place)
            elif not field.may_be_missing:
                raise ValueError(f"{place} is missing")

    def load(self, data: Any) -> Any:
        """Make the object."""
        return self._make(
            **{
                field.attribute: field.shape.load(data[name])
                for name, field in self._fields.items()
                if field.attribute and field.shape and name in data
            }
        )

    def dump(self, value: Any) -> Any:
        """Write the fields in their order; None for those of the caller."""
        document: dict[str, Any] = dict.fromkeys(self._fields)
        for name, field in self._fields.items():
            if field.attribute:
                one = value
                for attribute in field.attribute.split("."):
                    one = None if one is None else getattr(one, attribute)
                document[name] = field.shape.dump(one) if field.shape else one
        return document
