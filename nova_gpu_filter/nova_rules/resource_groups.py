# SPDX-License-Identifier: Apache-2.0

"""The resources that the extra specs of a flavor ask Placement for.

The rules are those of ``ResourceRequest`` in nova/scheduler/utils.py.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re
from typing import Final

VGPU: Final = "VGPU"
"""Resource class of mediated devices, unless ``mdev_class`` is set."""

# XS_KEYPAT.
_KEY: Final = re.compile("(resources|trait)([a-zA-Z0-9_-]{0,64}):(.+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What one extra spec asks for."""

    key: str
    """The extra spec."""
    suffix: str
    """Of the request group; empty for the one without."""
    resource_class: str
    amount: int
    """0 says that what the flavor is made of is not to be asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trait:
    """What one extra spec says of a trait."""

    suffix: str
    name: str
    value: str
    """``required`` or ``forbidden``; Nova ignores others."""


def parse(
    extra_specs: Mapping[str, str], is_strict: bool = False
) -> Iterator[Asked]:
    """Yield what ``resources<suffix>:<class>`` ask for.

    An amount is what Python takes for a whole number, 0 or more (``" 1"``
    and ``+1`` are); Nova leaves out others with a warning in the log of its
    scheduler (``add_resource`` of nova/objects/request_spec.py).

    :param is_strict: whether to raise for these.
    :raises ValueError: an amount is no number.
    """
    for key, suffix, name, value in _split(extra_specs, "resources"):
        try:
            amount = int(value)
        except ValueError:
            amount = -1
        if amount >= 0:
            yield Asked(key, suffix, name, amount)
        elif is_strict:
            raise ValueError(f"{key} = {value!r} is no number")


def parse_traits(extra_specs: Mapping[str, str]) -> Iterator[Trait]:
    """Yield what ``trait<suffix>:<trait>`` say."""
    for _, suffix, name, value in _split(extra_specs, "trait"):
        yield Trait(suffix, name, value)


def _split(
    extra_specs: Mapping[str, str], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    for key, value in extra_specs.items():
        match = _KEY.fullmatch(key)
        if match and match[1] == prefix:
            yield key, match[2], match[3], value
