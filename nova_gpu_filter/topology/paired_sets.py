# SPDX-License-Identifier: Apache-2.0

"""Sets of devices that are given together with the NICs beside them."""

from collections.abc import Iterable

from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import seeds
from nova_gpu_filter.topology.companions import Pairs
from nova_gpu_filter.topology.ranking import Ranking
from nova_gpu_filter.topology.tiers import Score
from nova_gpu_filter.topology.tiers import pack


def order_paired_sets(
    ranking: Ranking, found: Iterable[tuple[int, Pairs, int]], seed: int
) -> list[int]:
    """Sort given sets of devices with given NICs beside them.

    :param ranking: judges the sets of devices alone.
    :param found: for each the set, the pairs, and the set of all that is
        taken, as bits of any other topology. The least damage decides
        last.
    :returns: their indexes, best first, without those that cannot be had;
        equals permuted by the seed: those that have nothing in common
        with each other, then the others.
    """
    numbers_by_rank: dict[Score, dict[int, list[int]]] = {}
    for number, (mask, pairs, taken) in enumerate(found):
        score = ranking.score(mask)
        if score is not None:
            equals = numbers_by_rank.setdefault(
                score._replace(pairs=pairs), {}
            )
            equals.setdefault(taken, []).append(number)
    pick = seeds.spread(seed).pick
    numbers = []
    for rank in sorted(numbers_by_rank, reverse=True):
        equals = numbers_by_rank[rank]
        sets = sorted(equals)[: enumeration.MAX_SETS]
        packing = pack(sets)
        # The last are those that are too many to be permuted.
        ordered = dict.fromkeys(
            (*pick(packing, len(packing)), *pick(sets, len(sets)), *equals)
        )
        numbers += [number for taken in ordered for number in equals[taken]]
    return numbers
