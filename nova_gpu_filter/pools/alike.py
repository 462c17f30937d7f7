# SPDX-License-Identifier: Apache-2.0

"""Candidates that differ in nothing that NUMATopologyFilter asks about.

Nova's filter takes up to 15 ms a candidate, with a guest of two cells on a
host with four nodes and 11 devices, of which 5 are 462 candidates. To it
(``_filter_pools`` in nova/pci/stats.py) a device is its NUMA node, what is
free in its pool and which requests it matches. Candidates that take as many of
each kind pass together or not at all.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Final

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import request

MOST_OF_A_KIND: Final = 4
"""As many candidates of a kind are kept: the best one, and some for when a
claim of its devices is lost."""

MOST: Final = 64
"""As many are kept in all, if there are not more kinds than that."""


def keep_some_of_each_kind(
    host: matcher.HostPools,
    requests: request.DeviceRequests,
    mappings: Sequence[request.ProviderMapping | None],
    accepted: Sequence[int],
) -> Sequence[int]:
    """Keep the best candidates of each kind; others would answer the same.

    For one server, without another to come that needs what it leaves.

    :param accepted: indexes into ``mappings``, best first.
    :returns: those kept, in the same order.
    """
    if len(accepted) <= MOST_OF_A_KIND:
        return accepted
    kinds = _read_kinds(host, requests)
    by_kind: dict[object, list[int]] = {}
    for place, index in enumerate(accepted):
        kind = _get_kind(kinds, requests, mappings[index])
        by_kind.setdefault(kind, []).append(place)
    most = max(1, min(MOST_OF_A_KIND, MOST // len(by_kind)))
    kept = sorted(
        place for found in by_kind.values() for place in found[:most]
    )
    return [accepted[place] for place in kept]


def _read_kinds(
    host: matcher.HostPools, requests: request.DeviceRequests
) -> Mapping[str | None, tuple[object, ...]]:
    """Return by provider what Nova's filters see of the devices of a host."""
    found: dict[str | None, tuple[object, ...]] = {}
    for pool in host.pools:
        rp_uuid = pool.get("rp_uuid")
        # One provider can be several pools.
        found[rp_uuid] = (
            *found.get(rp_uuid, ()),
            pool.get("numa_node"),
            pool["count"],
            tuple(asked.drop(pool) is None for asked in requests.requests),
        )
    return found


def _get_kind(
    kind_by_rp_uuid: Mapping[str | None, tuple[object, ...]],
    requests: request.DeviceRequests,
    mapping: request.ProviderMapping | None,
) -> object:
    """Say what is equal for candidates that Nova cannot tell apart."""
    taken: dict[str, list[int]] = {}
    for place, asked in enumerate(requests.requests):
        for rp_uuid in asked.collect_rp_uuids(mapping):
            taken.setdefault(rp_uuid, []).append(place)
    devices = collections.Counter(
        (kind_by_rp_uuid.get(rp_uuid), tuple(places))
        for rp_uuid, places in taken.items()
    )
    # What serves other groups is not ours to judge.
    own = tuple(str(asked.request_id) for asked in requests.requests)
    others = frozenset(
        (suffix, tuple(providers))
        for suffix, providers in (mapping or {}).items()
        if suffix and not suffix.startswith(own)
    )
    return frozenset(devices.items()), others
