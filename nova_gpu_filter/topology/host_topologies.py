# SPDX-License-Identifier: Apache-2.0

"""Topologies of real hosts, from pools or from the traits of providers."""

from collections.abc import Iterable
from collections.abc import Sequence
import functools

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology.topology import Topology


def build_from_pools(
    devices: Sequence[tuple[str, str | None, int | None]],
) -> Topology:
    """Make the topology of the free devices of a host state.

    :param devices: (PCI address, tag ``gpu_links`` or None, ``numa_node`` or
        None), in the order of the addresses.
    :raises LinkTextError: a tag cannot be read or contradicts another.
    """
    try:
        return _build_from_texts(tuple(device[1:] for device in devices))
    except codec.LinkTextError:
        # Addresses are no part of the cache key, so say it again with them.
        return _compose_texts(devices)


def build_from_traits(
    devices: Sequence[tuple[str, Iterable[str], int | None]],
) -> Topology:
    """Make the topology of the device providers of a provider tree.

    :param devices: (name for messages, traits of the provider, NUMA node or
        None), in the order of the PCI addresses. Traits that are not ours are
        passed over.
    :raises LinkTextError: one of our traits cannot be read or contradicts
        another.
    """
    ours = [
        (name, _keep_our_traits(frozenset(traits)), node)
        for name, traits, node in devices
    ]
    try:
        return _build_shared(tuple(device[1:] for device in ours))
    except codec.LinkTextError:
        return _compose_traits(ours)


# Devices of one kind in one place have equal traits on every host.
@functools.lru_cache(maxsize=8192)
def _keep_our_traits(traits: frozenset[str]) -> tuple[str, ...]:
    return tuple(
        sorted(t for t in traits if t.startswith(codec.TRAIT_PREFIXES))
    )


# A kind of host has as many keys as its devices have free subsets.
@functools.lru_cache(maxsize=8192)
def _build_from_texts(
    devices: tuple[tuple[str | None, int | None], ...],
) -> Topology:
    return _compose_texts(
        [(str(index), *device) for index, device in enumerate(devices)]
    )


@functools.lru_cache(maxsize=8192)
def _build_shared(
    devices: tuple[tuple[tuple[str, ...], int | None], ...],
) -> Topology:
    return _compose_traits(
        [(str(index), *device) for index, device in enumerate(devices)]
    )


def _compose_texts(
    devices: Iterable[tuple[str, str | None, int | None]],
) -> Topology:
    return groups.compose(
        [
            (
                name,
                codec.DeviceLinks()
                if text is None
                else codec.parse_text(name, text),
                node,
            )
            for name, text, node in devices
        ]
    )


def _compose_traits(
    devices: Iterable[tuple[str, Iterable[str], int | None]],
) -> Topology:
    return groups.compose(
        [
            (name, codec.parse_traits(name, traits), node)
            for name, traits, node in devices
        ]
    )
