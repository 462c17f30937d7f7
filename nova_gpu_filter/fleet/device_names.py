# SPDX-License-Identifier: Apache-2.0

"""What people read of a device in the traits that Placement has of it."""

import functools

from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.topology import codec


@functools.lru_cache(maxsize=8192)
def name_model(resource_class: str | None, traits: frozenset[str]) -> str:
    """Say what people call a device, as far as Placement knows.

    The product by the trait of ``nova-gpu-host config``, else the ids where
    Nova made the resource class of them, else the resource class.
    """
    for trait in sorted(traits):
        if trait.startswith(our_traits.MODEL):
            return trait.removeprefix(our_traits.MODEL).replace("_", " ")
    if resource_class is None:
        return ""
    return names.find_ids(resource_class) or resource_class.removeprefix(
        names.CUSTOM
    )


@functools.lru_cache(maxsize=8192)
def format_links(name: str, traits: frozenset[str]) -> str:
    """Write the links of a device as in its tag ``gpu_links``.

    :param name: of its resource provider, for what is raised.
    :raises LinkTextError: a trait with one of our prefixes cannot be read.
    """
    return codec.format_text(codec.parse_traits(name, traits))
