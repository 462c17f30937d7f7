# SPDX-License-Identifier: Apache-2.0

"""Sets of devices that are equally good."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

from nova_gpu_filter.topology.companions import Pairs
from nova_gpu_filter.topology.links import Link


class Score(NamedTuple):
    """What is good about a set; the greater tuple is the better set."""

    satisfied: bool
    """Whether it meets the policy; True without one."""
    whole: bool
    """Whether it is a whole fabric partition, or the host lists none of that
    size: on a host that does, other sets cannot be activated."""
    weakest: Link
    """Worst link of a pair: a ring is as fast as its slowest pair, hence it
    counts before the sum."""
    total: int
    """Sum of the links of all pairs."""
    pairs: Pairs
    """What the best choice of NICs beside the set comes to; empty where none
    are asked for. GPUs with direct links do not use the ways over PCIe to each
    other, but those to their NICs."""
    farthest: Link
    """Worst way over PCIe of a pair: tells equal direct links apart."""
    nearness: int
    """Sum of the ways over PCIe of all pairs."""
    spared: float
    """F before less F after: minus the increase of fragmentation, in GPUs. 0
    on hosts where F is not exact."""
    linked: float
    """Minus what it takes from later requests for direct links, in GPUs; 0 as
    above."""


class Starts(NamedTuple):
    """Where the sets of each kind start in the list of a tier."""

    by_representative: dict[int, int]
    """Up to the bound on the list."""
    number: int
    """Sets in all, or enough to reach the bound."""


class Tier:
    """Sets that are equally good.

    They are listed when they are asked for, which is often the first tier
    only.

    :param score: of each of them.
    :param masks: one of each kind.
    :param list_sets: lists them, and those of a packing.
    """

    __slots__ = ("_list_sets", "_listed", "masks", "score", "starts")

    def __init__(
        self,
        score: Score,
        masks: Sequence[int],
        list_sets: Callable[[], tuple[Sequence[int], tuple[int, ...]]],
    ) -> None:
        self.score = score
        self.masks = masks
        self.starts: Starts | None = None
        """Counted when it is asked for."""
        self._list_sets = list_sets
        self._listed: tuple[Sequence[int], tuple[int, ...]] | None = None

    def _list(self) -> tuple[Sequence[int], tuple[int, ...]]:
        listed = self._listed
        if listed is None:
            listed = self._listed = self._list_sets()
        return listed

    @property
    def sets(self) -> Sequence[int]:
        """Masks in ascending order."""
        return self._list()[0]

    @property
    def packing(self) -> tuple[int, ...]:
        """Disjoint ones of them, which come before the others.

        Requests of one moment, each of which takes one of its own choice, then
        take the same devices or none in common, and leave whole sets.
        """
        return self._list()[1]


def pack(
    sets: Iterable[int], most: int | None = None, first: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """Pick disjoint sets, the first that fit.

    :param most: how many there can be, if that is known.
    :param first: sets that come before these.
    """
    packing = list(first)
    packed = sum(first)
    if len(packing) == most:
        return first
    for mask in sets:
        if not mask & packed:
            packing.append(mask)
            packed |= mask
            if len(packing) == most:
                break
    return tuple(packing)
