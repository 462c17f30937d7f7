# SPDX-License-Identifier: Apache-2.0

"""Which k of the free devices of a host to take: all answers, cached."""

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
from nova_gpu_filter.topology.fragmentation import Mix
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import Topology


class Choice(ranking.Ranking):
    """A ranking that can also choose for several purposes at once.

    Made by :func:`rank_device_sets`.
    """

    __slots__ = ()

    def list_diverse(self, seed: int, limit: int | None = None) -> list[int]:
        """List a few sets that serve many purposes.

        First the best set, then sets disjoint from it and from each other,
        each the best of what the ones before leave, so that a request for
        several instances can go on with the same host; then the best set of
        each NUMA node, for guests that are tied to one; then the others by
        rank.

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
        """List disjoint sets, then those of a packing if it has more good
        ones.

        :param limit: more than so many are not looked for.
        """
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
        packed = self._get_packing()
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
                self._has_few_steps and not self.exact
            ):
                break
        return masks

    def _get_packing(self) -> packing.Packing | None:
        """Return the packing with sets that meet the policy."""
        if self.policy is None:
            return packing.pack_by_default(self.topology, self.k)
        return satisfaction.build_packing(
            self.topology, self.k, self.policy.link
        )

    def _rank_fewer(
        self, free: int, beside: tuple[CompanionRequest, ...]
    ) -> "Choice":
        """Ask the same of fewer free devices.

        Where not all sets can be compared, a set that is found in few steps
        will do if it is as good as the best that is known of all devices. Its
        weakest link is then as good as any; of links without order (one in 25
        of random ones) more steps find a set with a better sum.
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
    mix: Mix = fragmentation.DEFAULT_MIX,
    beside: tuple[CompanionRequest, ...] = (),
) -> Choice:
    """Rank the sets of k of the free devices of a host.

    The order is: the policy; whole fabric partitions, where the host lists
    any of size k; the weakest link; the sum of the links; the most near NICs,
    one for each device; the weakest way over PCIe, and the sum of the ways;
    the least increase of fragmentation; the least that later requests for
    direct links lose. All sets are looked at where they are few, else as many
    as :data:`enumeration.MAX_STEPS` allows, those with the best weakest link
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
    if math.comb(free.bit_count(), k) <= _FEW_SETS:
        return _rank_few(topology, free, k, policy, mix, beside)
    return _rank_many(topology, free, k, policy, mix, beside)


def _rank(
    topology: Topology,
    free: int,
    k: int,
    policy: LinkPolicy | None,
    mix: Mix,
    beside: tuple[CompanionRequest, ...],
) -> Choice:
    if k < 1:
        raise ValueError(f"cannot choose {k} devices: must be 1 or more")
    if free & ~topology.everything:
        raise ValueError(
            f"free devices {free:#x}: there are only {topology.n} devices"
        )
    return Choice(topology, free, k, policy, mix, beside)


@functools.lru_cache(maxsize=512)
def _rank_in_few_steps(
    topology: Topology,
    free: int,
    k: int,
    policy: LinkPolicy | None,
    mix: Mix,
) -> Choice:
    return Choice(topology, free, k, policy, mix, most_steps=_FEW_STEPS)


_rank_few = functools.lru_cache(maxsize=4096)(_rank)
_rank_many = functools.lru_cache(maxsize=128)(_rank)
