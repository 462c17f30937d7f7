# SPDX-License-Identifier: Apache-2.0

"""Puts candidates that spread VFs over physical devices, or pack them, first.

So it does for vGPUs, of which only the providers are known.

With PCI in Placement the VFs of one physical device are one pool with one
resource provider (nova/compute/pci_placement_translator.py).
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
        key=lambda index: _rank(
            spread, asked.collect_rp_uuids(mappings[index]), free
        ),
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
    rank = _rank(spread, asked.collect_rp_uuids(mapping), free)
    return (
        *(-part for part in rank),
        -everything if spread is Spread.PACK else everything,
    )


def _count_free(pools: Iterable[request.Pool]) -> dict[str, int]:
    return {
        rp_uuid: pool["count"]
        for pool in pools
        if (rp_uuid := pool.get("rp_uuid")) is not None
    }


def order_by_providers(
    spread: Spread, candidates: Sequence[Sequence[str]]
) -> list[int]:
    """Sort candidates of which only the providers are known, as far as
    :func:`order` can then tell them apart.

    :param candidates: for each, the provider of each vGPU.
    :returns: indexes into ``candidates``; equal ones keep their order.
    """

    return sorted(
        range(len(candidates)),
        key=lambda index: _rank(spread, candidates[index], {}),
    )


def _rank(
    spread: Spread, providers: Iterable[str], free: Mapping[str, int]
) -> tuple[int, ...]:
    """Rank a candidate; the less is the better.

    :param providers: of each VF or vGPU that it takes.
    :param free: how many are free of a provider, as far as it is known.
    """
    taken = collections.Counter(providers)
    left = sum(free.get(rp_uuid, 0) for rp_uuid in taken)
    if spread is Spread.PACK:
        # Of two ways onto as many devices, the one that fills more.
        return len(taken), left, -max(taken.values(), default=0)
    return -len(taken), max(taken.values(), default=0), -left
