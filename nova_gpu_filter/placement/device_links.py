# SPDX-License-Identifier: Apache-2.0

"""Read from traits how the devices of a provider tree are linked.

The devices of a tree are numbered by the traits that tell their links, then by
UUID, so that hosts of one kind share every answer. (PCI addresses are no part
of Placement's answer.)
"""

from collections.abc import Iterable
from collections.abc import Sequence
import functools
from typing import TypeAlias

from oslo_log import log as logging

from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import topology as topologies

LOG = logging.getLogger(__name__)

Topology: TypeAlias = topologies.Topology


def arrange(
    providers: Iterable[str], summaries: trees.Summaries
) -> tuple[list[str], Topology]:
    """Number the device providers of one tree, and read how they are linked.

    :returns: the providers in the order of their indexes, and their topology.
    """
    names = sorted(
        providers, key=lambda name: (list_link_traits(name, summaries), name)
    )
    return names, read_topology(names, summaries)


def list_link_traits(
    provider: str, summaries: trees.Summaries
) -> tuple[str, ...]:
    """List the traits of a device that tell how it is linked."""
    return host_topologies.keep_traits(tuple(summaries[provider]["traits"]))


def read_topology(
    providers: Sequence[str], summaries: trees.Summaries
) -> Topology:
    """Read how device providers of one tree are linked.

    Traits that cannot be read are warned of once, and the devices then count
    as not linked.

    :param providers: in the order of their indexes.
    """
    try:
        return host_topologies.build_from_traits(
            [(name, summaries[name]["traits"], None) for name in providers]
        )
    except codec.LinkTextError as exc:
        _warn(str(exc))
        return host_topologies.build_from_traits(
            [(name, (), None) for name in providers]
        )


def read_companions(
    first: Sequence[str], second: Sequence[str], summaries: trees.Summaries
) -> companions.Companions | None:
    """Read how near the devices of two classes are, such as GPUs and NICs.

    :returns: None where nothing tells which are near to each other.
    """
    both = read_topology((*first, *second), summaries)
    # One device alone is compared with those that could be in its place.
    if len(both.levels) < 2 and len(first) > 1 and len(second) > 1:
        return None
    places = range(both.n)
    return companions.Companions.from_topology(
        both, places[: len(first)], places[len(first) :]
    )


def have_direct_links(
    providers: Iterable[str], summaries: trees.Summaries
) -> bool:
    """Whether any devices have links of their own, as GPUs have and NICs have
    not, or are in fabric partitions."""
    return any(
        _has_direct_links(list_link_traits(provider, summaries))
        for provider in providers
    )


@functools.lru_cache(maxsize=8192)
def _has_direct_links(traits: tuple[str, ...]) -> bool:
    try:
        found = codec.parse_traits("", traits)
    except codec.LinkTextError:
        return False
    return bool(found.partitions) or any(
        links.is_direct(link) for link, _ in found.groups
    )


@functools.lru_cache(maxsize=1024)
def _warn(problem: str) -> None:
    """Say what is wrong with traits; cached, so that it is said once."""
    LOG.warning(
        "The links of the devices in one provider tree cannot be used: %s."
        " Its device sets are not ordered by links.",
        problem,
    )
