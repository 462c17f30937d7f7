# SPDX-License-Identifier: Apache-2.0

"""Topologies of real hosts, from pools or from the traits of providers."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
from typing import Any
from typing import TypeAlias

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology.topology import Topology

_Parse: TypeAlias = Callable[[str, Any], codec.DeviceLinks]
"""Reads what describes the links of a device, given its name for messages."""


def build_from_pools(
    devices: Sequence[tuple[str, str | None, int | None]],
) -> Topology:
    """Make the topology of the free devices of a host state.

    :param devices: (PCI address, tag ``gpu_links`` or None, ``numa_node`` or
        None), in the order of the addresses.
    :raises LinkTextError: a tag cannot be read or contradicts another.
    """
    return _build(_parse_tag, devices)


def build_from_traits(
    devices: Iterable[tuple[str, Iterable[str], int | None]],
) -> Topology:
    """Make the topology of the device providers of a provider tree.

    :param devices: (name for messages, traits of the provider, NUMA node or
        None), in the order of the PCI addresses. Traits that are not ours are
        passed over.
    :raises LinkTextError: one of our traits cannot be read or contradicts
        another.
    """
    return _build(
        codec.parse_traits,
        [
            (name, keep_traits(tuple(traits)), node)
            for name, traits, node in devices
        ],
    )


# Devices of one kind in one place have equal traits on every host.
@functools.lru_cache(maxsize=16384)
def keep_traits(
    traits: tuple[str, ...], prefixes: tuple[str, ...] = codec.TRAIT_PREFIXES
) -> tuple[str, ...]:
    """Keep the traits that say links, or begin otherwise as asked; sorted."""
    return tuple(sorted(t for t in traits if t.startswith(prefixes)))


def _build(
    parse: _Parse, devices: Sequence[tuple[str, Any, int | None]]
) -> Topology:
    try:
        return _build_shared(parse, tuple(device[1:] for device in devices))
    except codec.LinkTextError:
        # Names are no part of the cache key, so say it again with them.
        return _compose(parse, devices)


# A kind of host has as many keys as its devices have free subsets.
@functools.lru_cache(maxsize=16384)
def _build_shared(
    parse: _Parse, devices: tuple[tuple[Any, int | None], ...]
) -> Topology:
    return _compose(
        parse, [(str(index), *device) for index, device in enumerate(devices)]
    )


def _compose(
    parse: _Parse, devices: Iterable[tuple[str, Any, int | None]]
) -> Topology:
    return groups.compose(
        [(name, parse(name, text), node) for name, text, node in devices]
    )


def _parse_tag(name: str, text: str | None) -> codec.DeviceLinks:
    return (
        codec.DeviceLinks() if text is None else codec.parse_text(name, text)
    )
