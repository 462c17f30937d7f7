# SPDX-License-Identifier: Apache-2.0

"""The allocation candidates that Placement would offer of one host.

Placement answers from what is free, so hosts without enough free GPUs have
none; :meth:`cloud.Cloud.list_distinct_hosts` leaves them out.
"""

import functools
import random
from typing import Any

from nova_gpu_filter.placement import device_links
from nova_gpu_filter.placement import sets
from nova_gpu_filter.simulate import cloud
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import topology as topologies


def choose_stock(host: cloud.Host, k: int, seed: int) -> list[int]:
    """Choose the set that Placement alone would name first.

    Placement builds the combinations of providers from sets in memory, whose
    order depends on their ids and on the question (measured with Placement
    16), so any set is as likely as any other. One is enough: Nova's filter
    accepts every set and keeps the order, and the scheduler claims the first.
    That every host is offered is kind to stock Placement, of whose long
    answers ``[scheduler]max_placement_results`` cuts off most hosts.

    :returns: masks, one at most.
    """
    # One seed a host, or all hosts would get the same numbers.
    chance = random.Random(seed ^ host.number << 32)  # noqa: S311
    return [
        topologies.make_mask(
            chance.sample(topologies.list_devices(host.free), k)
        )
    ]


def choose_composed(
    host: cloud.Host,
    k: int,
    seed: int,
    most: int | None,
    mix: fragmentation.Mix = fragmentation.DEFAULT_MIX,
) -> list[int]:
    """Choose the sets that our Placement extension would name.

    For one GPU the extension leaves the answer to Placement, which names each
    free one.

    :param seed: what the extension makes of the id of the request.
    :param most: sets a host; None for all.
    :param mix: the ``[gpu_filter]request_mix`` of Placement.
    :returns: masks, good ones first.
    """
    if k == 1:
        return [1 << bit for bit in topologies.list_devices(host.free)]
    shares = tuple(host.free >> bit & 1 for bit in range(host.kind.gpus))
    return [
        topologies.make_mask(found)
        for found in sets.choose(
            _read_topology(host.kind), shares, k, most, seed, mix
        )
    ]


@functools.lru_cache(maxsize=1024)
def _read_topology(kind: hosts_file.HostKind) -> topologies.Topology:
    """Return the topology that Placement reads from the traits of a host."""
    names = [str(bit) for bit in range(kind.gpus)]
    return device_links.read_topology(
        names,
        {
            name: {
                "traits": codec.format_traits(codec.parse_text(name, text))
                if text
                else ()
            }
            for name, text in zip(names, kind.links, strict=True)
        },
    )


def offer(
    host: cloud.Host, masks: list[int], request_id: str
) -> list[dict[str, Any]]:
    """Write device sets as allocation candidates.

    :param request_id: of the PCI request; the suffixes of its groups begin
        with it.
    """
    found = []
    for mask in masks:
        mappings = {"": [host.state.uuid]}
        for number, bit in enumerate(topologies.list_devices(mask)):
            mappings[f"{request_id}-{number}"] = [host.providers[bit]]
        found.append({"mappings": mappings})
    return found
