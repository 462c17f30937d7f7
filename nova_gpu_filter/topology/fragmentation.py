# SPDX-License-Identifier: Apache-2.0

"""How many free GPUs of a host are of no use to the requests to come.

The form for groups of GPUs of the measure in "Beware of Fragmentation:
Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent"
(USENIX ATC 2023): there for shares of one GPU, here for sets with good links.
"""

from collections.abc import Iterable
import functools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology.topology import Topology

Mix: TypeAlias = tuple[tuple[int, float], ...]
"""(k, weight) of each request size to expect; the weights sum to 1."""

DEFAULT_MIX: Final[Mix] = ((1, 0.4), (2, 0.2), (4, 0.2), (8, 0.2))

_MEMO_ENTRIES: Final = 1 << 16


class Fragmentation:
    """F of one topology and mix; shared by threads, see :class:`Packing`."""

    __slots__ = ("_default", "_linked", "_memo", "_packings")

    def __init__(
        self, topology: Topology, mix: Mix, is_for_many: bool = False
    ) -> None:
        """Find what is to be counted.

        :param is_for_many: whether links are left out whose sets take too
            long to be counted for thousands of sets.
        """
        self._memo: dict[int, tuple[float, float]] = {}
        default = [
            (k, weight, packing.pack_by_default(topology, k))
            for k, weight in mix
            # Any device can be used alone, but for partitions.
            if k > 1 or topology.lists_partitions(k)
        ]
        # One device alone has no links to lose.
        linked = [
            (k * weight, packed)
            for k, weight in mix
            for packed in packing.pack_by_direct_link(topology, k)
            if k > 1 and (packed.is_exact or not is_for_many)
        ]
        # Most are in both lists, and are asked once.
        place_by_packing: dict[packing.Packing, int] = {}
        for packed in (*(p for *_, p in default), *(p for _, p in linked)):
            if packed is not None:
                place_by_packing.setdefault(packed, len(place_by_packing))
        self._packings = list(place_by_packing)
        self._default = [
            (k, weight, None if packed is None else place_by_packing[packed])
            for k, weight, packed in default
        ]
        """(k, weight, index of the packing that counts the sets; None where
        there are none)."""
        self._linked = [
            (gpus, place_by_packing[packed]) for gpus, packed in linked
        ]
        """(GPUs of a set times weight, index of the packing)."""

    @property
    def is_exact(self) -> bool:
        """Whether F is; else it takes too long to compare many sets by it."""
        return all(
            place is None or self._packings[place].is_exact
            for *_, place in self._default
        )

    @property
    def counts_exactly(self) -> bool:
        """Whether F is exact, and what sets take from direct links too."""
        return all(packed.is_exact for packed in self._packings)

    def measure(self, free: int) -> float:
        """Return F when these devices are free."""
        return self._judge(free, 0)[0]

    def measure_damage(self, free: int, mask: int) -> tuple[float, float]:
        """Return what later requests lose when a set of free devices is taken.

        :returns: by how much F grows, to which a pair is a pair, on NVLink or
            not; and how many GPUs fewer requests with ``gpu:link`` of
            ``nvlink`` and ``fabric`` can have at once, averaged over mix.
        """
        return self.list_damages(free, (mask,))[0]

    def list_damages(
        self, free: int, masks: Iterable[int]
    ) -> list[tuple[float, float]]:
        """Return :meth:`measure_damage` of each of some sets of a size."""
        unusable, linked = self._judge(free, 0)
        # Thousands of sets do few different damages.
        known: dict[tuple[float, float], tuple[float, float]] = {}
        damages = []
        for mask in masks:
            after = self._judge(free, mask)
            damage = known.get(after)
            if damage is None:
                # The same damage is the same number, however floats add up.
                damage = known[after] = (
                    round(after[0] - unusable, 9),
                    round(linked - after[1], 9),
                )
            damages.append(damage)
        return damages

    def _judge(self, free: int, taken: int) -> tuple[float, float]:
        """Return F, and the GPUs that requests for direct links can have,
        when some of the free devices are taken."""
        left = free ^ taken
        known = self._memo.get(left)
        if known is not None:
            return known
        number = left.bit_count()
        sets = [packed.count_left(free, taken) for packed in self._packings]
        unusable = 0.0
        for k, weight, place in self._default:
            usable_ = 0 if place is None else k * sets[place]
            unusable += weight * (number - usable_)
        linked = sum(gpus * sets[place] for gpus, place in self._linked)
        if len(self._memo) >= _MEMO_ENTRIES:
            self._memo.clear()
        self._memo[left] = known = unusable, linked
        return known


@functools.lru_cache(maxsize=4096)
def build_measure(topology: Topology, mix: Mix) -> Fragmentation:
    """Return the cached answers for a topology and a mix."""
    return Fragmentation(topology, mix)


@functools.lru_cache(maxsize=4096)
def build_measure_for_many(topology: Topology, mix: Mix) -> Fragmentation:
    """Return the answers by which thousands of sets are compared: the same,
    but where some of it takes too long."""
    measure = build_measure(topology, mix)
    if measure.counts_exactly:
        return measure
    return Fragmentation(topology, mix, is_for_many=True)
