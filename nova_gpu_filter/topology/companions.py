# SPDX-License-Identifier: Apache-2.0

"""How well a set of NICs goes with a set of GPUs: one NIC for each GPU."""

from collections.abc import Sequence
import functools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import devices_of

CrossLinks: TypeAlias = tuple[tuple[Link, ...], ...]
"""Links between GPUs (rows) and NICs (columns), each in device order."""

FLOORS: Final = (links.PIX, links.PXB, links.PHB, links.NODE)


def cross_links(
    topology: Topology, gpus: Sequence[int], nics: Sequence[int]
) -> CrossLinks:
    """Cut the links between GPUs and NICs out of a topology of both.

    :param gpus: devices of the topology; their order is that of the rows.
    :param nics: the same for the columns.
    """
    return tuple(tuple(topology.links[a][b] for b in nics) for a in gpus)


@functools.lru_cache(maxsize=8192)
def score(cross: CrossLinks, gpus: int, nics: int) -> tuple[int, ...]:
    """Count the one-to-one pairs of near GPUs and NICs.

    :param gpus: mask of the chosen GPUs, bits being rows of ``cross``.
    :param nics: mask of the chosen NICs, bits being columns.
    :returns: for each of :data:`FLOORS` the most pairs, each device in one
        pair at most, that have at least this link. The greater tuple is the
        better choice.
    """
    return tuple(_most_pairs(cross, gpus, nics, floor) for floor in FLOORS)


def _most_pairs(cross: CrossLinks, gpus: int, nics: int, floor: Link) -> int:
    """Find a maximum bipartite matching by augmenting paths."""
    columns = devices_of(nics)
    gpu_by_nic: dict[int, int] = {}

    def pair(gpu: int, tried: set[int]) -> bool:
        for nic in columns:
            if cross[gpu][nic] < floor or nic in tried:
                continue
            tried.add(nic)
            if nic not in gpu_by_nic or pair(gpu_by_nic[nic], tried):
                gpu_by_nic[nic] = gpu
                return True
        return False

    return sum(pair(gpu, set()) for gpu in devices_of(gpus))
