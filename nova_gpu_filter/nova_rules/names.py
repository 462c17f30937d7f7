# SPDX-License-Identifier: Apache-2.0

"""Names of resource classes and traits, as Nova writes them for Placement.

The rules are ``get_resource_class`` and ``get_traits`` of
nova/compute/pci_placement_translator.py; tests compare with these.

The lists of standard names are read when the first name is: importing them is
slow.
"""

import re
from typing import Final

MAX_LENGTH: Final = 255
"""Of what Placement takes for a resource class or a trait
(placement/schemas/resource_class.py and trait.py)."""
CUSTOM: Final = "CUSTOM_"
"""What every name begins with that is not standard."""
ONE_TIME_USE: Final = "HW_PCI_ONE_TIME_USE"
"""The trait that Nova gives devices which it reserves when it gives them
away; os-traits of Nova 31 lacks it."""
_BY_IDS: Final = re.compile("CUSTOM_PCI_([0-9A-F]{4})_([0-9A-F]{4})")


def normalize_resource_class(name: str) -> str:
    """Write a resource class that an operator has named.

    Standard ones stay as they are (``PGPU``), others get ``CUSTOM_``.
    """
    import os_resource_classes

    name = name.upper()
    if name in os_resource_classes.STANDARDS or (
        os_resource_classes.is_custom(name)
    ):
        return name
    return str(os_resource_classes.normalize_name(name))


def check_resource_class(name: str) -> str:
    """Write a resource class that was named where Placement's is expected.

    :returns: the name, as :func:`normalize_resource_class` writes it.
    :raises ValueError: nothing of it is left, or Placement takes no such
        name.
    """
    if not re.search("[A-Za-z0-9]", name):
        raise ValueError(
            "it has no letter of A to Z and no digit, of which names of"
            " resource classes are made"
        )
    found = normalize_resource_class(name)
    if len(found) > MAX_LENGTH:
        raise ValueError(
            f"a resource class has at most {MAX_LENGTH} characters, and"
            f" {found[:20]}... has {len(found)}"
        )
    return found


def get_resource_class(
    name: str | None, vendor_id: str | None, product_id: str | None
) -> str:
    """Write the resource class of a device.

    :param name: the tag ``resource_class``; without it the ids are used, of 4
        hexadecimal digits each.
    """
    if not name:
        return f"CUSTOM_PCI_{vendor_id}_{product_id}".upper()
    return normalize_resource_class(name)


def find_ids(resource_class: str) -> str | None:
    """Find the ids, ``10de:2330``, of which a resource class is made."""
    ids = _BY_IDS.fullmatch(resource_class)
    return f"{ids[1]}:{ids[2]}".lower() if ids else None


def normalize_traits(text: str) -> frozenset[str]:
    """Write the traits of a tag ``traits``, which commas separate."""
    if not text:
        return frozenset()
    import os_traits

    standard, others = os_traits.check_traits(text.split(","))
    return frozenset(standard) | {
        name if os_traits.is_custom(name) else os_traits.normalize_name(name)
        for name in map(str.upper, others)
    }
