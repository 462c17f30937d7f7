# SPDX-License-Identifier: Apache-2.0

"""The forms of data in JSON: checks, reads and writes them.

What is there beside a form is passed over.
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
    def load(self, data: Any, where: str) -> Any:
        """Check data, and make of them what they stand for.

        :param where: the field that they are of, for messages.
        :raises ValueError: they have another form; the message names the
            field.
        """

    def dump(self, value: Any) -> Any:
        """Give what stands for a value, for ``json.dumps``."""
        return value


def _fail(where: str, data: Any, what: str) -> ValueError:
    shown = repr(data)
    if len(shown) > 60:
        shown = f"{shown[:60]} ..."
    return ValueError(printable.join_lines(f"{where}: {shown} is no {what}"))


@dataclasses.dataclass(frozen=True)
class Text(Shape):
    """A text, of which a function can make something, and back."""

    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str
    most: int = printable.MOST
    """Characters that it may have; by default those of a path."""

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, str):
            raise _fail(where, data, "text")
        if len(data) > self.most:
            raise ValueError(f"{where}: longer than {self.most}")
        try:
            return self.read(data)
        except ValueError as error:
            raise ValueError(
                printable.join_lines(f"{where}: {str(error)[:200]}")
            ) from None

    def dump(self, value: Any) -> Any:
        return self.write(value)


def parse_hexadecimal(text: str) -> int:
    """Read an id or a class: 1 to 8 hexadecimal digits.

    :raises ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        raise ValueError(f"{text!r} is no hexadecimal number")
    return int(text, 16)


@dataclasses.dataclass(frozen=True)
class Number(Shape):
    """A number of 0 to a bound; without one, what 64 bits hold."""

    most: int = (1 << 64) - 1

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, int) or isinstance(data, bool):
            raise _fail(where, data, "whole number")
        if not 0 <= data <= self.most:
            raise ValueError(f"{where}: not between 0 and {self.most}")
        return data


class Flag(Shape):
    """True or false."""

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, bool):
            raise _fail(where, data, "true or false")
        return data


@dataclasses.dataclass(frozen=True)
class Nullable(Shape):
    """What may also be null."""

    inner: Shape

    def load(self, data: Any, where: str) -> Any:
        return None if data is None else self.inner.load(data, where)

    def dump(self, value: Any) -> Any:
        return None if value is None else self.inner.dump(value)


@dataclasses.dataclass(frozen=True)
class Many(Shape):
    """A list, of which a collection is made; of a set it is sorted."""

    inner: Shape
    make: Callable[[Iterable[Any]], Collection[Any]] = tuple
    least: int = 0
    """Elements that it must have."""

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, list):
            raise _fail(where, data, "list")
        if len(data) > _MOST:
            raise ValueError(f"{where}: more than {_MOST} elements")
        if len(data) < self.least:
            raise ValueError(f"{where}: fewer than {self.least} elements")
        return self.make(
            self.inner.load(element, f"{where}[{index}]")
            for index, element in enumerate(data)
        )

    def dump(self, value: Any) -> Any:
        elements = sorted(value) if isinstance(value, frozenset) else value
        return [self.inner.dump(element) for element in elements]


@dataclasses.dataclass(frozen=True)
class Map(Shape):
    """An object whose keys are data, too."""

    key: Shape
    value: Shape

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise _fail(where, data, "object")
        return {
            self.key.load(key, where): self.value.load(
                value, f"{where}[{key!r}]"
            )
            for key, value in data.items()
        }

    def dump(self, value: Any) -> Any:
        return {
            self.key.dump(key): self.value.dump(one)
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
    """An object with known fields.

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

    def load(self, data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise _fail(where, data, "object")
        values = {}
        for name, field in self._fields.items():
            if field.shape is None:
                continue
            place = f"{where}.{name}" if where else name
            if name in data:
                values[field.attribute] = field.shape.load(data[name], place)
            elif not field.may_be_missing:
                raise ValueError(f"{place} is missing")
        return self._make(
            **{name: one for name, one in values.items() if name is not None}
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
