# SPDX-License-Identifier: Apache-2.0

"""Which links the free devices of a host lack, and what they could give."""

from collections.abc import Callable
from collections.abc import Sequence

from nova_gpu_filter.pools import refusal
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.topology import Topology


def describe(
    topology: Topology,
    free: int,
    named: Callable[[int], Sequence[str]],
    k: int,
    asked: Requirement,
) -> refusal.LinkShortage:
    """Work out what to tell of k devices that cannot be had as asked.

    :param free: mask of the free devices.
    :param named: lists the addresses of a set.
    """
    return refusal.LinkShortage(
        asked=asked.value,
        largest=tuple(named(advice.find_largest_set(topology, free, asked))),
        would_fit=tuple(
            requirement.value
            for requirement in advice.list_met_requirements(topology, free, k)
        ),
    )
