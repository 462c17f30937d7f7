# SPDX-License-Identifier: Apache-2.0

"""What makes one host better than another: the links of the set it offers, and
what that costs it. Placement's answer and the weighers use both."""

import math
from typing import Final
from typing import NamedTuple

from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology

_DIRECT: Final = (links.Requirement.FABRIC, links.Requirement.NVLINK)


class Linked(NamedTuple):
    """How good the links of a set are; the greater tuple is the better."""

    is_partition: bool
    """Whether it is a whole fabric partition, where one is asked for."""
    weakest: links.Link
    """Worst link of a pair, but none that is better than was asked for."""
    mean: float
    """Mean of the links of its pairs."""


class Spared(NamedTuple):
    """What a set leaves to later requests; the greater tuple is the better."""

    fragmentation: float
    """F before less F after, in GPUs."""
    linked: float
    """GPUs fewer that later requests for direct links can have, negative."""
    free: int
    """Devices that were free before, negative: the fullest host comes first,
    so that empty hosts stay empty."""


UNLINKED: Final = Linked(False, links.SYS, 0.0)
"""Nothing is known of the links, or they do not matter."""


def judge_links(
    topology: Topology, mask: int, requirement: links.Requirement
) -> Linked:
    """Judge the links of a set by what a flavor asks with ``gpu:link``.

    Those over PCIe only have to be there: a better one would be missing
    elsewhere. A set that is no whole fabric partition counts as unlinked where
    the host lists partitions of that size: no NVLink can be activated.

    :param mask: the devices, in a topology that may have only the free ones.
    """
    k = mask.bit_count()
    if k < 2:
        return UNLINKED
    weakest = topology.find_weakest_link(mask)
    if requirement not in _DIRECT:
        return Linked(False, min(weakest, requirement.floor), 0.0)
    is_partition = topology.is_whole_partition(mask)
    if topology.lists_partitions(k) and not is_partition:
        return UNLINKED
    return Linked(
        is_partition and requirement is links.Requirement.FABRIC,
        weakest,
        topology.sum_links(mask) / math.comb(k, 2),
    )


def judge_cost(
    topology: Topology, free: int, mask: int, mix: fragmentation.Mix
) -> Spared:
    """Judge what a set takes from later requests.

    :param free: the free devices, those of the set among them.
    :param mix: request sizes to expect.
    """
    measure = fragmentation.build_measure(topology, mix)
    increase, loss = measure.measure_damage(free, mask)
    return Spared(-increase, -loss, -free.bit_count())
