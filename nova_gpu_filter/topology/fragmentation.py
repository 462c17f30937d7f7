# SPDX-License-Identifier: Apache-2.0

"""How many free GPUs of a host are of no use to the requests to come.

The form for groups of GPUs of the measure in "Beware of Fragmentation:
Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent"
(USENIX ATC 2023): there for shares of one GPU, here for sets with good links.
"""

import functools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology.topology import Topology

Mix: TypeAlias = tuple[tuple[int, float], ...]
"""(k, weight) of each request size to expect; the weights sum to 1."""

DEFAULT_MIX: Final[Mix] = ((1, 0.4), (2, 0.2), (4, 0.2), (8, 0.2))

_MEMO_ENTRIES: Final = 1 << 16


def usable(topology: Topology, free: int, k: int) -> int:
    """Return the largest number of requests of size k that fit at once.

    Each gets a set that meets the default policy of k on this host, see
    :func:`packing.pack_by_default`.

    :param free: mask of the free devices.
    :param k: at least 1.
    """
    packed = packing.pack_by_default(topology, k)
    return 0 if packed is None else packed.count(free)


def fragmentation(
    topology: Topology, free: int, mix: Mix = DEFAULT_MIX
) -> float:
    """Return F: the free GPUs that requests cannot use, averaged over mix.

    :param free: mask of the free devices.
    :returns: GPUs, from 0 to the number of free ones where the weights sum
        to 1.
    """
    return build_measure(topology, mix).fragmentation(free)


class Fragmentation:
    """F of one topology and mix; shared by threads, see :class:`Packing`."""

    __slots__ = ("_linked", "_linked_memo", "_memo", "_packings")

    def __init__(self, topology: Topology, mix: Mix) -> None:
        self._memo: dict[int, float] = {}
        self._linked_memo: dict[int, float] = {}
        self._packings = [
            (k, weight, packing.pack_by_default(topology, k))
            for k, weight in mix
        ]
        # One device alone has no links to lose.
        self._linked = [
            (weight * k, packed)
            for k, weight in mix
            for packed in packing.pack_by_direct_link(topology, k)
            if k > 1
        ]

    @property
    def is_exact(self) -> bool:
        """Whether F is; else it takes too long to compare many sets by it."""
        return all(
            packed is None or packed.is_exact for *_, packed in self._packings
        )

    def fragmentation(self, free: int) -> float:
        """Return F when these devices are free."""
        return self._fragmentation_left(free, 0)

    def _fragmentation_left(self, free: int, taken: int) -> float:
        """Return F when some of the free devices are taken."""
        left = free ^ taken
        known = self._memo.get(left)
        if known is not None:
            return known
        number = left.bit_count()
        unusable = 0.0
        for k, weight, packed in self._packings:
            sets = 0
            if packed is not None and k <= number:
                sets = packed.count_left(free, taken)
            unusable += weight * (number - k * sets)
        if len(self._memo) >= _MEMO_ENTRIES:
            self._memo.clear()
        self._memo[left] = unusable
        return unusable

    def increase(self, free: int, mask: int) -> float:
        """Return by how much F grows when a set of free devices is taken."""
        # The same damage is the same number, however the floats add up.
        return round(
            self._fragmentation_left(free, mask) - self.fragmentation(free), 9
        )

    def linked_loss(self, free: int, mask: int) -> float:
        """Return what a set takes from later requests for direct links.

        For ``gpu:link`` with ``nvlink`` and with ``fabric``: how many GPUs
        fewer requests of each size can have at once, averaged over mix. F
        cannot tell: to it a pair is a pair, on NVLink or not.
        """
        return round(
            self._count_linked(free, 0) - self._count_linked(free, mask), 9
        )

    def _count_linked(self, free: int, taken: int) -> float:
        left = free ^ taken
        known = self._linked_memo.get(left)
        if known is None:
            known = sum(
                gpus * packed.count_left(free, taken)
                for gpus, packed in self._linked
            )
            if len(self._linked_memo) >= _MEMO_ENTRIES:
                self._linked_memo.clear()
            self._linked_memo[left] = known
        return known


@functools.lru_cache(maxsize=4096)
def build_measure(topology: Topology, mix: Mix) -> Fragmentation:
    """Return the cached answers for a topology and a mix."""
    return Fragmentation(topology, mix)
