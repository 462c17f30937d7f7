# SPDX-License-Identifier: Apache-2.0

"""Choice and fragmentation by brute force, straight from their definition.

Shares nothing with the product but the data: no cache by kind, no twins, no
components, no bounds.
"""

import functools
import itertools

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Requirement


def sets_of(free, k):
    devices = [i for i in range(free.bit_length()) if free >> i & 1]
    for chosen in itertools.combinations(devices, k):
        yield sum(1 << device for device in chosen)


def links_in(topology, mask):
    return _pairs_in(topology, topology.links, mask)


def ways_in(topology, mask):
    return _pairs_in(topology, topology.ways, mask)


def _pairs_in(topology, matrix, mask):
    return [
        matrix[a][b]
        for a in range(topology.n)
        for b in range(a)
        if mask >> a & 1 and mask >> b & 1
    ]


def weakest(topology, mask):
    return min(links_in(topology, mask), default=links.SELF)


def is_whole(topology, mask):
    return any(
        partition.mask == mask and mask.bit_count() == partition.size
        for partition in topology.partitions
    )


def lists_size(topology, k):
    return k in [partition.size for partition in topology.partitions]


@functools.lru_cache(maxsize=64)
def good_sets(topology, k):
    """Sets of k that meet the default policy of k."""
    sets = list(sets_of(topology.everything, k))
    if lists_size(topology, k):
        return [mask for mask in sets if is_whole(topology, mask)]
    best = max((weakest(topology, mask) for mask in sets), default=None)
    return [mask for mask in sets if weakest(topology, mask) == best]


@functools.lru_cache(maxsize=1 << 18)
def usable(topology, free, k):
    if free.bit_count() < k:
        return 0
    low = free & -free
    return max(
        [usable(topology, free ^ low, k)]
        + [
            1 + usable(topology, free ^ mask, k)
            for mask in good_sets(topology, k)
            if mask & low and mask & free == mask
        ]
    )


@functools.lru_cache(maxsize=1 << 16)
def fragmentation(topology, free, mix):
    free_number = free.bit_count()
    return sum(
        weight * (free_number - k * usable(topology, free, k))
        for k, weight in mix
    )


@functools.lru_cache(maxsize=1 << 16)
def linked_gpus(topology, free, mix):
    """GPUs that requests for nvlink, and for fabric, can have, as F does."""
    found = 0.0
    for k, weight in mix:
        sets = list(sets_of(free, k)) if k > 1 else []
        if lists_size(topology, k):
            whole = [mask for mask in sets if is_whole(topology, mask)]
            found += 2 * weight * k * most_disjoint(whole, free, k)
        else:
            floor = Requirement.NVLINK.floor
            good = [mask for mask in sets if weakest(topology, mask) >= floor]
            found += weight * k * most_disjoint(good, free, k)
    return found


def satisfies(topology, mask, policy):
    if policy is None:
        return True
    if policy.link is Requirement.FABRIC:
        return is_whole(topology, mask)
    return weakest(topology, mask) >= policy.link.floor


def pairs_of(cross, gpus, nics):
    """Count for each floor the most one-to-one pairs, trying all.

    :param cross: links, a row for each GPU.
    :param gpus: the rows that are taken.
    :param nics: the columns that are taken, one entry a NIC.
    """
    few, many = list(gpus), list(nics)
    swapped = len(few) > len(many)
    if swapped:
        few, many = many, few
    return tuple(
        max(
            sum(
                (cross[b][a] if swapped else cross[a][b]) >= floor
                for a, b in zip(few, order, strict=True)
            )
            for order in itertools.permutations(many, len(few))
        )
        for floor in (links.PIX, links.PXB, links.PHB, links.NODE)
    )


def best_pairs(beside, mask):
    """Pair a set with the best NICs: (cross, columns to be had, count) for
    each kind of them."""
    gpus = [i for i in range(mask.bit_length()) if mask >> i & 1]
    found = [
        max(
            pairs_of(cross, gpus, nics)
            for nics in itertools.combinations(columns, count)
        )
        for cross, columns, count in beside
    ]
    return tuple(map(sum, zip(*found, strict=True)))


def score(topology, free, mask, policy, mix, beside=()):
    k = mask.bit_count()
    before = fragmentation(topology, free, mix)
    after = fragmentation(topology, free ^ mask, mix)
    return (
        satisfies(topology, mask, policy),
        is_whole(topology, mask) or not lists_size(topology, k),
        weakest(topology, mask),
        sum(links_in(topology, mask)),
        best_pairs(beside, mask),
        min(ways_in(topology, mask), default=links.SELF),
        sum(ways_in(topology, mask)),
        round(before - after, 9),
        round(
            linked_gpus(topology, free ^ mask, mix)
            - linked_gpus(topology, free, mix),
            9,
        ),
    )


def tiers(topology, free, k, policy, mix, beside=()):
    """List (score, masks in ascending order), best first."""
    by_score = {}
    for mask in sets_of(free, k):
        found = score(topology, free, mask, policy, mix, beside)
        if policy is None or found[0] or not policy.required:
            by_score.setdefault(found, []).append(mask)
    return [
        (found, sorted(by_score[found]))
        for found in sorted(by_score, reverse=True)
    ]


def most_disjoint(masks, free, k):
    """Count the most of some sets of k that are disjoint."""

    @functools.cache
    def count(left):
        if left.bit_count() < k:
            return 0
        low = left & -left
        return max(
            [count(left ^ low)]
            + [
                1 + count(left ^ mask)
                for mask in masks
                if mask & low and mask & left == mask
            ]
        )

    return count(free)
