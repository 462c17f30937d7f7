# SPDX-License-Identifier: Apache-2.0

"""Whether devices are to each other what a flavor asks of them."""

from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import Topology


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
    """Count the disjoint sets of k free devices that a policy allows.

    A preferred policy allows every set.
    """
    if policy is None or not policy.required:
        return free.bit_count() // k
    return build_packing(topology, k, policy.link).count(free)
