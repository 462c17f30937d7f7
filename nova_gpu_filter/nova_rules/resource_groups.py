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

_KEY = re.compile(r"resources([a-zA-Z0-9_-]{0,64}):(.+)")
_AMOUNT = re.compile(r"0*[1-9][0-9]*", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What one extra spec asks for."""

    key: str
    """The extra spec."""
    suffix: str
    """Of the request group; empty for the one without."""
    resource_class: str
    amount: int


def parse(extra_specs: Mapping[str, str]) -> Iterator[Asked]:
    """Yield what ``resources<suffix>:<class>`` ask for, but for nothing."""
    for key, value in extra_specs.items():
        match = _KEY.fullmatch(key)
        if match and _AMOUNT.fullmatch(value):
            yield Asked(key, match[1], match[2], int(value))
