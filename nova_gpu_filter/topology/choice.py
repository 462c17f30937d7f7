# SPDX-License-Identifier: Apache-2.0

"""Which k of the free devices of a host to take: all answers, cached."""

from collections.abc import Iterable
import functools
import itertools
import math
from typing import Final

from nova_gpu_filter.topology import enumeration
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology import ranking
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology import seeds
from nova_gpu_filter.topology.companions import CompanionRequest
from nova_gpu_filter.topology.companions import Pairs
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.tiers import Score
from nova_gpu_filter.topology.tiers import pack
from nova_gpu_filter.topology.topology import Topology


class Choice(ranking.Ranking):
    """A ranking that can also choose for several purposes at once.

    Made by :func:`rank_device_sets`.
    """

    def list_diverse(self, seed: int, limit: int | None = None) -> list[int]:
        """List a few sets that serve many purposes.

        First disjoint sets, each the best of what the ones before leave, so
        that a request for several instances can go on with the same host; then
        the best set of each NUMA node, for guests that are tied to one; then
        the others by rank.

        :param seed: see :meth:`list_best_first`.
        :param limit: number of sets; None for all.
        :returns: distinct masks.
        """
        if limit is None:
            limit = math.comb(self.topology.n, self.k)
        masks = dict.fromkeys(self._list_disjoint(seed, limit))
        for near in self.topology.list_local_masks():
            if len(masks) < limit and near & self.free:
                local = self._rank_fewer(near & self.free, self.beside)
                masks.update(dict.fromkeys(local.list_best_first(seed, 1)))
        if len(masks) < limit:
            masks.update(dict.fromkeys(self.list_best_first(seed, limit)))
        return list(itertools.islice(masks, limit))

    def _list_disjoint(self, seed: int, limit: int) -> list[int]:
        """List disjoint sets, at most so many; then those of a packing if it
        has more good ones."""
        masks: list[int] = []
        free = self.free
        left = self
        beside = self.beside
        while len(masks) < limit:
            if beside or free.bit_count() <= _MOST_RANKED_ANEW:
                found = left.list_best_first(seed, 1)
            else:
                found = left._list_disjoint_by_rank(seed, limit - len(masks))
            if not found:
                break
            masks += found
            taken = sum(found)
            free ^= taken
            beside = tuple(asked.leave_out(taken) for asked in beside)
            left = left._rank_fewer(free, beside)
        # The sets of which meet the policy.
        packed = (
            packing.pack_by_default(self.topology, self.k)
            if self.policy is None
            else satisfaction.build_packing(
                self.topology, self.k, self.policy.link
            )
        )
        if packed is not None:
            good = packed.count(self.free)
            if sum(packed.count(mask) for mask in masks) < good:
                masks += packed.list_sets(self.free)
        return masks

    def _list_disjoint_by_rank(self, seed: int, limit: int) -> list[int]:
        """List disjoint sets by the ranking of all free devices alone.

        The damage that each does beside those before it is not known then.
        """
        masks: list[int] = []
        free = self.free
        pick = seeds.spread(seed).pick
        for tier in self.generate_tiers():
            before = len(masks)
            for mask in itertools.chain(
                pick(tier.packing, len(tier.packing)), tier.sets
            ):
                if not mask & ~free:
                    masks.append(mask)
                    free ^= mask
                    if len(masks) == limit or free.bit_count() < self.k:
                        return masks
            # Of few steps only the best sets are as good as of many.
            if len(masks) == before or (
                self.most_steps < enumeration.MAX_STEPS and not self.exact
            ):
                break
        return masks

    def _rank_fewer(
        self, free: int, beside: tuple[CompanionRequest, ...]
    ) -> "Choice":
        """Ask the same of fewer free devices.

        Where not all sets can be compared, a set that is found in few steps
        will do if it is as good as the best that is known of all devices: more
        steps find a better sum only of links without order (one in 25 of
        random ones).
        """
        if not (self.exact or self._knows_damage or beside):
            found = _rank_in_few_steps(
                self.topology, free, self.k, self.policy, self.mix
            )
            if found.best is not None and found.best == self.best:
                return found
        return rank_device_sets(
            self.topology, free, self.k, self.policy, self.mix, beside
        )


_FEW_SETS: Final = 256

_FEW_STEPS: Final = enumeration.MAX_STEPS // 20

_MOST_RANKED_ANEW: Final = packing.EXACT_DEVICES
"""Up to so many free devices each of the disjoint sets is looked for in a
ranking of what the ones before leave. Of 64 devices 16 of these take 300 ms.
"""


def rank_device_sets(
    topology: Topology,
    free: int,
    k: int,
    policy: LinkPolicy | None = None,
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX,
    beside: tuple[CompanionRequest, ...] = (),
) -> Choice:
    """Rank the sets of k of the free devices of a host, by their
    :class:`tiers.Score`.

    All sets are looked at where they are few, else as many as
    :data:`enumeration.MAX_STEPS` allows, those with the best weakest link
    first, and of equally linked ones :data:`ranking.MAX_PAIRED` for their
    NICs.

    :param free: mask of the free devices.
    :param k: devices of a set.
    :param policy: what the flavor asks; None for nothing.
    :param mix: request sizes to expect, for fragmentation.
    :param beside: what is to be chosen with them, for each kind of device.
    :raises ValueError: k is less than 1, or ``free`` names devices that the
        topology has not.
    """
    # Rankings differ in size by a factor of 1000: bound their memory apart.
    is_small = math.comb(free.bit_count(), k) <= _FEW_SETS
    rank = _rank_few if is_small else _rank_many
    return rank(topology, free, k, policy, mix, beside)


_rank_few = functools.lru_cache(maxsize=4096)(Choice)
_rank_many = functools.lru_cache(maxsize=128)(Choice)
_rank_in_few_steps = functools.lru_cache(maxsize=512)(
    functools.partial(Choice, most_steps=_FEW_STEPS)
)


def order_paired_sets(
    judge: ranking.Ranking, found: Iterable[tuple[int, Pairs, int]], seed: int
) -> list[int]:
    """Sort given sets of devices with given NICs beside them.

    :param judge: judges the sets of devices alone.
    :param found: for each the set, the pairs, and the set of all that is
        taken, as bits of any other topology. The least damage decides
        last.
    :returns: their indexes, best first, without those that cannot be had;
        equals permuted by the seed: those that have nothing in common
        with each other, then the others.
    """
    numbers_by_rank: dict[Score, dict[int, list[int]]] = {}
    for number, (mask, pairs, taken) in enumerate(found):
        score = judge.score(mask)
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
