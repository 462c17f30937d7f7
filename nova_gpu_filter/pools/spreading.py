# SPDX-License-Identifier: Apache-2.0

"""Puts candidates that spread VFs over physical devices, or pack them, first.

So it does for vGPUs, of which only the providers are known.

With PCI in Placement the VFs of one physical device are one pool with one
resource provider (nova/compute/pci_placement_translator.py), so that the
providers of a candidate are the physical devices that it uses, and ``count``
of a pool is how many VFs of one are free.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from nova_gpu_filter.pools import request
from nova_gpu_filter.topology.policy import Spread


def order(
    pools: Iterable[request.Pool],
    asked: request.DeviceRequest,
    spread: Spread,
    mappings: Sequence[request.ProviderMapping | None],
    accepted: Sequence[int],
) -> list[int]:
    """Sort candidates; equal ones keep their order.

    ``spread``: as many physical devices as there are VFs, and those with the
    most free VFs. ``pack``: as few as possible, and those with the fewest, so
    that others stay whole.

    :param asked: the request whose devices count.
    :param accepted: indexes into ``mappings``.
    """
    free = _count_free(pools)
    return sorted(
        accepted,
        key=lambda index: _rank(free, asked, spread, mappings[index]),
    )


def judge_host(
    pools: Iterable[request.Pool],
    asked: request.DeviceRequest,
    spread: Spread,
    mapping: request.ProviderMapping | None,
) -> tuple[float, ...]:
    """Judge a host by what its first candidate takes, as :func:`order` does.

    Among equals ``spread`` prefers the host with the most free devices, and
    ``pack`` that with the fewest.

    :param mapping: of the candidate; None where Placement does not know the
        devices.
    :returns: the greater is the better.
    """
    free = _count_free(pool for pool in pools if asked.drop(pool) is None)
    everything = sum(free.values())
    return (
        *(-part for part in _rank(free, asked, spread, mapping)),
        -everything if spread is Spread.PACK else everything,
    )


def _count_free(pools: Iterable[request.Pool]) -> dict[str, int]:
    return {
        rp_uuid: pool["count"]
        for pool in pools
        if (rp_uuid := pool.get("rp_uuid")) is not None
    }


def _rank(
    free: Mapping[str, int],
    asked: request.DeviceRequest,
    spread: Spread,
    mapping: request.ProviderMapping | None,
) -> tuple[int, ...]:
    """Rank a candidate; the less is the better."""
    taken = collections.Counter(asked.collect_rp_uuids(mapping))
    left = sum(free.get(rp_uuid, 0) for rp_uuid in taken)
    if spread is Spread.PACK:
        # Of two ways onto as many devices, the one that fills more.
        return len(taken), left, -max(taken.values(), default=0)
    return -len(taken), max(taken.values(), default=0), -left


def order_by_providers(
    spread: Spread, candidates: Sequence[Sequence[str]]
) -> list[int]:
    """Sort candidates of which only the providers are known.

    ``spread``: those with the most physical devices come first, and of these
    those that take the least of one. ``pack``: the other way round.

    :param candidates: for each, the provider of each vGPU.
    :returns: indexes into ``candidates``; equal ones keep their order.
    """

    def rank(index: int) -> tuple[int, int]:
        taken = collections.Counter(candidates[index])
        return -len(taken), max(taken.values(), default=0)

    sign = -1 if spread is Spread.PACK else 1
    return sorted(
        range(len(candidates)),
        key=lambda index: tuple(sign * part for part in rank(index)),
    )
