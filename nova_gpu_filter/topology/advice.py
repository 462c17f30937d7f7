# SPDX-License-Identifier: Apache-2.0

"""What to tell when the free devices have no set as a flavor asks."""

from typing import Final

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.topology import Topology

_MOST_STEPS: Final = 1 << 12


def find_largest_set(
    topology: Topology, free: int, requirement: Requirement
) -> int:
    """Find a largest set of free devices that meets a requirement.

    :returns: its mask, the same one each time; 0 when there is none, as where
        no fabric partition is whole. One device alone meets everything else.
    """
    if requirement is not Requirement.FABRIC:
        near = topology.find_neighbors(requirement.floor)
        return cliques.find_largest_clique(
            near, free, cliques.Steps(_MOST_STEPS)
        )
    whole = (
        mask
        for size in {partition.size for partition in topology.partitions}
        for mask in topology.list_whole_partitions(size, free)
    )
    return max(whole, key=lambda mask: (mask.bit_count(), -mask), default=0)


def list_met_requirements(
    topology: Topology, free: int, k: int
) -> list[Requirement]:
    """List what a request of k devices could ask and get now.

    :returns: strictest first; empty when not even ``node`` can be met.
    """
    return [
        requirement
        for requirement in Requirement
        if satisfaction.build_packing(topology, k, requirement).count(free)
    ]
