# SPDX-License-Identifier: Apache-2.0

"""How well NICs, or other devices, go with a set of GPUs: one for each GPU."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Final
from typing import NamedTuple
from typing import TypeAlias

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices

FLOORS: Final = (links.PIX, links.PXB, links.PHB, links.NODE)

Pairs: TypeAlias = tuple[int, ...]
"""For each of :data:`FLOORS` the most one-to-one pairs with at least this
link. The greater tuple is the better choice."""


class Pairing(NamedTuple):
    """GPUs and NICs of which each has another."""

    pairs: Pairs
    gpus: Sequence[int]
    """Those that have a NIC, the nearest pairs first."""
    nics: Sequence[int]
    """Those that have a GPU, in no order; one entry a pair."""


@dataclasses.dataclass(frozen=True, slots=True)
class Companions:
    """The links between GPUs and devices of another kind, here called NICs.

    Hash and equality go by value: hosts of one kind are one key of a cache.
    """

    cross: tuple[tuple[links.Link, ...], ...]
    """Links between GPUs (rows) and NICs (columns), each in device order."""
    _near: tuple[tuple[tuple[int, ...], ...], ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """By floor and GPU: the NICs that it has this link with, or a better."""
    _hash: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what every question needs."""
        near = tuple(
            tuple(
                tuple(nic for nic, link in enumerate(row) if link >= floor)
                for row in self.cross
            )
            for floor in FLOORS
        )
        object.__setattr__(self, "_near", near)
        object.__setattr__(self, "_hash", hash(self.cross))

    def __hash__(self) -> int:
        """Return the hash that was computed once."""
        return self._hash

    @classmethod
    def from_topology(
        cls, topology: Topology, gpus: Sequence[int], nics: Sequence[int]
    ) -> "Companions":
        """Cut the links between GPUs and NICs out of a topology of both.

        :param gpus: devices of the topology; their order is that of the rows.
        :param nics: the same for the columns.
        """
        return cls(
            tuple(tuple(topology.links[a][b] for b in nics) for a in gpus)
        )

    def pair(
        self, gpus: int, capacities: Sequence[int], count: int
    ) -> "Pairing":
        """Pair GPUs with the best of the NICs that can be had.

        The nearest pairs are made first. Later ones do not change which NICs
        are taken: NICs that can be paired at once are a transversal matroid,
        and what fits at a better link fits at a worse one. So no choice of
        NICs has more pairs at any of the floors.

        :param gpus: mask of the chosen GPUs, bits being rows.
        :param capacities: how often each NIC can be taken: once, or as often
            as it has free virtual functions.
        :param count: how many NICs are taken; there are as many.
        """
        gpus_by_nic: dict[int, list[int]] = {}
        single = list_devices(gpus)
        paired: list[int] = []
        pairs = []
        for near in self._near:
            if len(paired) < count and single:
                left = []
                for gpu in single:
                    if len(paired) < count and _augment(
                        gpu, near, capacities, gpus_by_nic, set()
                    ):
                        paired.append(gpu)
                    else:
                        left.append(gpu)
                single = left
            pairs.append(len(paired))
        return Pairing(
            tuple(pairs),
            paired,
            [nic for nic, found in gpus_by_nic.items() for _ in found],
        )


@functools.lru_cache(maxsize=1024)
def build_for_all_devices(topology: Topology) -> Companions:
    """Return how near all devices of a topology are to all."""
    return Companions(topology.links)


def _augment(
    gpu: int,
    near: Sequence[Sequence[int]],
    capacities: Sequence[int],
    gpus_by_nic: dict[int, list[int]],
    tried: set[int],
) -> bool:
    """Find a NIC for a GPU, for which others may have to take another."""
    for nic in near[gpu]:
        if nic in tried or not capacities[nic]:
            continue
        tried.add(nic)
        taken = gpus_by_nic.setdefault(nic, [])
        if len(taken) < capacities[nic]:
            taken.append(gpu)
            return True
        for place, other in enumerate(taken):
            if _augment(other, near, capacities, gpus_by_nic, tried):
                taken[place] = gpu
                return True
    return False


class CompanionRequest(NamedTuple):
    """Devices of another kind that are to be chosen beside the GPUs."""

    companions: Companions
    capacities: tuple[int, ...]
    """How often each can be taken."""
    asked: int
    """How many are asked for."""

    def pair(self, gpus: int) -> Pairing:
        """Pair these GPUs with the best that can be had."""
        return self.companions.pair(gpus, self.capacities, self.asked)

    def list_nearest_first(self, gpus: int) -> Sequence[int]:
        """List those of some GPUs that can have a near NIC at once."""
        return self.companions.pair(
            gpus, self.capacities, gpus.bit_count()
        ).gpus

    def leave_out(self, gpus: int) -> "CompanionRequest":
        """Leave out what is chosen beside these GPUs."""
        capacities = list(self.capacities)
        for nic in self.pair(gpus).nics:
            capacities[nic] -= 1
        return self._replace(capacities=tuple(capacities))


def add_pairs(all_pairs: Sequence[Pairs]) -> Pairs:
    """Add up the pairs with devices of several kinds; none have none."""
    return tuple(map(sum, zip(*all_pairs, strict=True)))
