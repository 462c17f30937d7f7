# SPDX-License-Identifier: Apache-2.0

"""Whether devices are to each other what a flavor asks of them, and what could
be had instead."""

from typing import Final

from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import Topology

_MOST_STEPS: Final = 1 << 12
"""Of one search for a largest set; see cliques.Steps."""


def meets(requirement: Requirement, weakest: Link, is_partition: bool) -> bool:
    """Whether a set meets a requirement, by what is known of it.

    :param weakest: the worst link of its pairs.
    :param is_partition: whether it is one whole fabric partition.
    """
    if requirement is Requirement.FABRIC:
        return is_partition
    return weakest >= requirement.floor


def does_any_set_meet(
    topology: Topology, mask: int, k: int, requirement: Requirement
) -> bool:
    """Whether, whichever k of some devices are taken, they meet it.

    :param mask: the devices, k or more.
    """
    return meets(
        requirement,
        topology.find_weakest_link(mask),
        mask.bit_count() == k and topology.is_whole_partition(mask),
    )


def build_packing(
    topology: Topology, k: int, requirement: Requirement
) -> packing.Packing:
    """Return the packing with sets of k devices that meet a requirement."""
    if requirement is Requirement.FABRIC:
        return packing.pack_partitions(topology, k)
    return packing.pack_linked_sets(topology, k, requirement.floor)


def count_sets(
    topology: Topology, free: int, k: int, policy: LinkPolicy | None
) -> int:
    """Count the disjoint sets of k free devices that a policy allows; a
    preferred one allows every set."""
    if policy is None or not policy.required:
        return free.bit_count() // k
    return build_packing(topology, k, policy.link).count(free)


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
        partition.mask
        for partition in topology.partitions
        if partition.is_whole and not partition.mask & ~free
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
        if build_packing(topology, k, requirement).count(free)
    ]
