# SPDX-License-Identifier: Apache-2.0

"""What is read of Placement once, for several checks."""

import dataclasses
import functools
import urllib.parse
import uuid

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.placement import header
from nova_gpu_filter.status import client

PROBES = 4
"""How often the extension is looked for: Placement APIs may share the load,
and one may have been forgotten."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """The devices, and who answers for them."""

    hosts: tuple[model.Host, ...]
    """Those that have devices."""
    composed: int
    """Of :data:`PROBES` answers, those that the extension composed."""

    @functools.cached_property
    def most(self) -> int:
        """The most devices of one class that a host has."""
        return max(
            (
                len(host.list_devices(resource_class))
                for host in self.hosts
                for resource_class in host.resource_classes
            ),
            default=0,
        )


def read(asked: client.Client) -> Survey:
    """Ask Placement: two requests for the devices of most clouds.

    :raises PlacementError: it does not answer.
    """
    try:
        hosts = provider_trees.read_hosts(asked.get)
    except errors.NoDevices:
        hosts = ()
    return Survey(hosts, _count_composed(asked))


def _count_composed(asked: client.Client) -> int:
    """Ask a question that the extension answers, several times.

    It asks for two equal devices in a tree that does not exist: an empty
    answer, which costs Placement nothing, with the header or without.
    """
    nowhere = uuid.uuid4()
    query = urllib.parse.urlencode(
        {
            "resources1": "VCPU:1",
            "in_tree1": nowhere,
            "resources2": "VCPU:1",
            "in_tree2": nowhere,
            "group_policy": "none",
            "limit": 1,
        }
    )
    return sum(
        header.NAME in asked.get(f"/allocation_candidates?{query}").headers
        for _ in range(PROBES)
    )
