# SPDX-License-Identifier: Apache-2.0

"""Which devices the extra specs of a flavor ask for.

The rules are those of ``_translate_alias_to_requests`` in
nova/pci/request.py.
"""

from collections.abc import Mapping
import dataclasses
import re
from typing import Final

ALIAS_KEY: Final = "pci_passthrough:alias"
"""Extra spec of a flavor: ``<alias>:<number>``, separated by commas."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceCount:
    """How many devices of an alias a flavor asks for."""

    alias: str
    count: int


def parse_device_counts(
    extra_specs: Mapping[str, str],
) -> tuple[DeviceCount, ...]:
    """Read what a flavor asks for; the first one is for its GPUs.

    :returns: empty for a flavor without devices.
    :raises ValueError: Nova cannot read it; the message says why.
    """
    text = extra_specs.get(ALIAS_KEY)
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        name, colon, number = part.partition(":")
        if not colon or ":" in number or not name.strip():
            raise ValueError(
                f"{ALIAS_KEY} = {text!r}: {part!r} is not <alias>:<number>"
            )
        if not re.fullmatch(r"\s*[0-9]+\s*", number) or not int(number):
            raise ValueError(
                f"{ALIAS_KEY} = {text!r}: {number!r} is no number of devices,"
                " 1 or more"
            )
        found.append(DeviceCount(name.strip(), int(number)))
    return tuple(found)
