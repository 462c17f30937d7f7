# SPDX-License-Identifier: Apache-2.0

"""Sets of devices that are equally good."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
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
    are asked for. Before the ways over PCIe, which GPUs with direct links do
    not use to each other."""
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


@dataclasses.dataclass(eq=False, slots=True)
class Tier:
    """Sets that are equally good.

    They are listed when they are asked for, which is often the first tier
    only.
    """

    score: Score
    masks: Sequence[int]
    """One of each kind."""
    list_sets: Callable[[], tuple[Sequence[int], tuple[int, ...]]]
    """Lists all, and those of a packing."""
    starts: Starts | None = None
    """Counted when it is asked for."""
    _listed: tuple[Sequence[int], tuple[int, ...]] | None = None

    def _list(self) -> tuple[Sequence[int], tuple[int, ...]]:
        listed = self._listed
        if listed is None:
            listed = self._listed = self.list_sets()
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
