# SPDX-License-Identifier: Apache-2.0

"""Read from traits how the devices of a provider tree are linked.

The devices of a tree are numbered in an order that hosts of one kind share,
so that they share every answer: by the traits that tell their links, then by
UUID. (PCI addresses are no part of Placement's answer.)
"""

from collections.abc import Iterable
from collections.abc import Sequence
import functools
from typing import TypeAlias

from oslo_log import log as logging

from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import topology as topologies

LOG = logging.getLogger(__name__)

Topology: TypeAlias = topologies.Topology

_OUR_TRAITS = (codec.LINK_TRAIT_PREFIX, codec.FABRIC_TRAIT_PREFIX)


def arrange(
    providers: Iterable[str], summaries: trees.Summaries
) -> tuple[list[str], Topology]:
    """Number the device providers of one tree, and read how they are linked.

    :returns: the providers in the order of their indexes, and their topology.
    """
    arranged = sorted(
        (_keep_link_traits(tuple(summaries[provider]["traits"])), provider)
        for provider in providers
    )
    return (
        [provider for _, provider in arranged],
        _read_if_good(arranged),
    )


@functools.lru_cache(maxsize=8192)
def _keep_link_traits(traits: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        sorted(trait for trait in traits if trait.startswith(_OUR_TRAITS))
    )


def read_topology(
    providers: Iterable[str], summaries: trees.Summaries
) -> Topology:
    """Read how device providers of one tree are linked.

    :param providers: in the order of their indexes.
    """
    return _read_if_good(
        [
            (_keep_link_traits(tuple(summaries[provider]["traits"])), provider)
            for provider in providers
        ]
    )


def _read_if_good(
    devices: Sequence[tuple[tuple[str, ...], str]],
) -> Topology:
    """Return how devices are linked.

    Traits that cannot be read are warned of once, and the devices then count
    as not linked.

    :param devices: (traits that tell links, provider) of each device.
    """
    try:
        return _build_topology(tuple(traits for traits, _ in devices))
    except codec.LinkTextError:
        _warn(tuple(devices))
        return _build_topology(((),) * len(devices))


def read_companions(
    first: Sequence[str], second: Sequence[str], summaries: trees.Summaries
) -> companions.Companions | None:
    """Read how near the devices of two classes are, such as GPUs and NICs.

    :returns: None where nothing tells which are near to each other.
    """
    both = read_topology((*first, *second), summaries)
    # One device alone is compared with those that could be in its place.
    if len(both.levels) < 2 and len(first) > 1 and len(second) > 1:
        return None
    places = range(both.n)
    return companions.Companions.from_topology(
        both, places[: len(first)], places[len(first) :]
    )


def have_links(provider: str, summaries: trees.Summaries) -> bool:
    """Whether the traits of a device tell how it is linked."""
    return bool(_keep_link_traits(tuple(summaries[provider]["traits"])))


def have_direct_links(
    providers: Iterable[str], summaries: trees.Summaries
) -> bool:
    """Whether any devices have links of their own, as GPUs have and NICs have
    not, or are in fabric partitions."""
    return any(
        _has_direct_links(
            _keep_link_traits(tuple(summaries[provider]["traits"]))
        )
        for provider in providers
    )


@functools.lru_cache(maxsize=8192)
def _has_direct_links(traits: tuple[str, ...]) -> bool:
    try:
        found = codec.parse_traits("", traits)
    except codec.LinkTextError:
        return False
    return bool(found.partitions) or any(
        links.is_direct(link) for link, _ in found.groups
    )


@functools.lru_cache(maxsize=4096)
def _build_topology(traits: tuple[tuple[str, ...], ...]) -> Topology:
    return host_topologies.build_from_traits(
        [(str(index), found, None) for index, found in enumerate(traits)]
    )


@functools.lru_cache(maxsize=1024)
def _warn(devices: tuple[tuple[tuple[str, ...], str], ...]) -> None:
    """Say what is wrong with the traits; cached, so that it is said once."""
    try:
        host_topologies.build_from_traits(
            [(name, found, None) for found, name in devices]
        )
    except codec.LinkTextError as exc:
        LOG.warning(
            "The links of the devices in one provider tree cannot be used: %s."
            " Its device sets are not ordered by links.",
            exc,
        )
