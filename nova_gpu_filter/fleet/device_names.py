# SPDX-License-Identifier: Apache-2.0

"""What people read of a device in the traits that Placement has of it."""

import functools
import re
from typing import Final

from nova_gpu_filter.topology import codec

MODEL_TRAIT_PREFIX: Final = "CUSTOM_GPU_MODEL_"
"""Trait by which ``nova-gpu-host config`` names the product."""
CUSTOM: Final = "CUSTOM_"
"""What the names of operators begin with."""

# nova/compute/pci_placement_translator.py makes it of the ids.
_PCI_CLASS: Final = re.compile("CUSTOM_PCI_([0-9A-F]{4})_([0-9A-F]{4})")


@functools.lru_cache(maxsize=8192)
def name_model(resource_class: str | None, traits: frozenset[str]) -> str:
    """Say what people call a device, as far as Placement knows.

    The product by the trait of ``nova-gpu-host config``, else the ids where
    Nova made the resource class of them, else the resource class.
    """
    for trait in sorted(traits):
        if trait.startswith(MODEL_TRAIT_PREFIX):
            return trait.removeprefix(MODEL_TRAIT_PREFIX).replace("_", " ")
    if resource_class is None:
        return ""
    ids = _PCI_CLASS.fullmatch(resource_class)
    if ids:
        return f"{ids[1]}:{ids[2]}".lower()
    return resource_class.removeprefix(CUSTOM)


@functools.lru_cache(maxsize=8192)
def format_links(name: str, traits: frozenset[str]) -> str:
    """Write the links of a device as in its tag ``gpu_links``.

    :param name: of its resource provider, for what is raised.
    :raises LinkTextError: a trait with one of our prefixes cannot be read.
    """
    return codec.format_text(codec.parse_traits(name, traits))
