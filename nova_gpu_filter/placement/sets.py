# SPDX-License-Identifier: Apache-2.0

"""Which device sets of a provider tree to offer, by the links of the devices.

The devices of a tree are numbered in an order that hosts of one kind share,
so that they share every answer: by the traits that tell their links, then by
UUID. (PCI addresses are no part of Placement's answer.)
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools
from typing import TypeAlias

from oslo_log import log as logging

from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import hosts
from nova_gpu_filter.topology import topology as topologies

LOG = logging.getLogger(__name__)

IndexSet: TypeAlias = tuple[int, ...]
"""Indexes of devices, ascending; one that serves several groups repeats."""

_OUR_TRAITS = (codec.LINK_TRAIT_PREFIX, codec.FABRIC_TRAIT_PREFIX)


def in_order(
    providers: Iterable[str], summaries: trees.Summaries
) -> list[str]:
    """Sort device providers of one tree in the order of their indexes."""
    return sorted(
        providers,
        key=lambda provider: (
            _link_traits(tuple(summaries[provider]["traits"])),
            provider,
        ),
    )


@functools.lru_cache(maxsize=8192)
def _link_traits(traits: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        sorted(trait for trait in traits if trait.startswith(_OUR_TRAITS))
    )


def topology_of(
    providers: Sequence[str], summaries: trees.Summaries
) -> topologies.Topology:
    """Return how the devices of one tree are linked, as their traits tell.

    Traits that cannot be read are warned of once, and the devices of the tree
    then count as not linked.
    """
    traits = tuple(
        _link_traits(tuple(summaries[provider]["traits"]))
        for provider in providers
    )
    try:
        return _topology(traits)
    except codec.LinkTextError:
        _warn(tuple(zip(providers, traits)))
        return _topology(((),) * len(traits))


@functools.lru_cache(maxsize=4096)
def _topology(traits: tuple[tuple[str, ...], ...]) -> topologies.Topology:
    return hosts.from_traits(
        [(str(index), found, None) for index, found in enumerate(traits)]
    )


@functools.lru_cache(maxsize=1024)
def _warn(devices: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """Say what is wrong with the traits; cached, so that it is said once."""
    try:
        hosts.from_traits([(name, found, None) for name, found in devices])
    except codec.LinkTextError as exc:
        LOG.warning(
            "The links of the devices in one provider tree cannot be used: %s."
            " Its device sets are not ordered by links.",
            exc,
        )


@functools.lru_cache(maxsize=8192)
def choose(
    topology: topologies.Topology,
    shares: tuple[int, ...],
    size: int,
    limit: int | None,
    seed: int,
) -> Sequence[IndexSet]:
    """Choose device sets: good ones first, few and diverse.

    Sets of different devices come first, ordered by their links, among them a
    packing of the free devices into disjoint sets. Sets in which a device
    serves several groups follow.

    :param shares: how many groups of the class each device can serve.
    :param size: how many groups there are.
    :param limit: how many sets are wanted; None for all.
    :param seed: permutes sets that are equally good.
    :returns: all different; empty only if no set fits.
    """
    free = topologies.mask_of(i for i, share in enumerate(shares) if share)
    chosen: list[IndexSet] = []
    if free.bit_count() >= size:
        chosen.extend(
            tuple(topologies.devices_of(mask))
            for mask in _few(topology, free, size, seed, limit)
        )
    if max(shares, default=0) > 1:
        repeating = (
            found for found in every(shares, size) if len(set(found)) < size
        )
        missing = None if limit is None else max(0, limit - len(chosen))
        chosen.extend(itertools.islice(repeating, missing))
    return chosen


def _few(topology, free, size, seed, limit):
    devices = topologies.devices_of(free)
    packing = [
        topologies.mask_of(devices[i : i + size])
        for i in range(0, len(devices) - size + 1, size)
    ]
    rest = (
        topologies.mask_of(found)
        for found in itertools.combinations(devices, size)
    )
    return list(
        itertools.islice(
            itertools.chain(packing, (m for m in rest if m not in packing)),
            limit,
        )
    )


def every(shares: Sequence[int], size: int) -> Iterator[IndexSet]:
    """Yield every multiset of devices within their shares, in order.

    :param size: how many devices are in a set.
    """
    # What the devices from an index on can serve together.
    left = [
        sum(min(share, size) for share in shares[index:])
        for index in range(len(shares) + 1)
    ]

    def beyond(start: int, missing: int) -> Iterator[IndexSet]:
        if not missing:
            yield ()
            return
        for index in range(start, len(shares)):
            if left[index] < missing:
                return
            for times in range(min(shares[index], missing), 0, -1):
                for found in beyond(index + 1, missing - times):
                    yield (index,) * times + found

    return beyond(0, size)
