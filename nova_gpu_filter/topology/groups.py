# SPDX-License-Identifier: Apache-2.0

"""From a pair matrix to the link groups of each device, and back."""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import topology
from nova_gpu_filter.topology.codec import DeviceLinks
from nova_gpu_filter.topology.codec import LinkTextError


def compose(
    devices: Sequence[tuple[str, DeviceLinks, int | None]],
) -> topology.Topology:
    """Make the topology that the links of its devices describe.

    A pair has the best links, direct and over PCIe, of which both name the
    same group. Without one over PCIe it is ``NODE`` when both are known to be
    on one NUMA node, unless both name ``node`` groups; else ``SYS``.

    :param devices: (name for messages, links, NUMA node) in device order.
    :raises LinkTextError: the devices contradict each other about the size
        of a fabric partition.
    """
    groups = [set(device_links.groups) for _, device_links, _ in devices]
    numa = [node for _, _, node in devices]
    knows_node = [
        any(link == links.NODE for link, _ in mine) for mine in groups
    ]
    matrix = [[links.SELF] * len(devices) for _ in devices]
    ways = [[links.SELF] * len(devices) for _ in devices]
    for a, b in itertools.combinations(range(len(devices)), 2):
        common = {link for link, _ in groups[a] & groups[b]}
        both_know_node = knows_node[a] and knows_node[b]
        way = max(
            (link for link in common if not links.is_direct(link)),
            default=links.SYS
            if both_know_node
            else topology.get_numa_link(numa[a], numa[b]),
        )
        ways[a][b] = ways[b][a] = way
        matrix[a][b] = matrix[b][a] = max(common | {way})
    return topology.Topology.from_matrix(
        matrix, _read_partitions(devices), numa, ways
    )


def _read_partitions(
    devices: Sequence[tuple[str, DeviceLinks, int | None]],
) -> list[topology.FabricPartition]:
    mask_by_id: dict[int, int] = {}
    size_by_id: dict[int, int] = {}
    for index, (name, device_links, _) in enumerate(devices):
        for id_, size in device_links.partitions:
            token = f"fabric:{id_}/{size}"
            known = size_by_id.setdefault(id_, size)
            if known != size:
                raise LinkTextError(
                    name,
                    token,
                    f"another device says that this partition has {known}"
                    " devices",
                )
            mask = mask_by_id.get(id_, 0) | 1 << index
            if mask.bit_count() > size:
                raise LinkTextError(
                    name, token, f"more than {size} devices name it"
                )
            mask_by_id[id_] = mask
    return [
        topology.FabricPartition(id_, size, mask_by_id[id_])
        for id_, size in size_by_id.items()
    ]


def decompose(host: topology.Topology) -> list[DeviceLinks]:
    """Describe a topology by the links of each of its devices.

    The inverse of :func:`compose`, whether or not the reader knows the NUMA
    nodes. Groups of a type are numbered from 0 in the order of their first
    device, and few, but not proven to be as few as can be.

    :returns: one a device, in device order.
    """
    groups: list[list[tuple[links.Link, int]]] = [[] for _ in range(host.n)]
    for matrix, link in _generate_levels(host):
        for number, mask in enumerate(_cover_pairs(matrix, link)):
            for device in topology.list_devices(mask):
                groups[device].append((link, number))
    _deny_numa(host, groups)
    return [
        DeviceLinks(
            groups=tuple(groups[device]),
            partitions=tuple(
                (partition.id, partition.size)
                for partition in host.partitions
                if partition.mask >> device & 1
            ),
        )
        for device in range(host.n)
    ]


def _generate_levels(
    host: topology.Topology,
) -> Iterator[tuple[topology.Matrix, links.Link]]:
    """Yield the links to describe, and where, best first."""
    for matrix, is_direct in ((host.links, True), (host.ways, False)):
        found = {
            matrix[a][b] for a, b in itertools.combinations(range(host.n), 2)
        }
        for link in sorted(found - {links.SYS}, reverse=True):
            if links.is_direct(link) == is_direct:
                yield matrix, link


def _cover_pairs(matrix: topology.Matrix, link: links.Link) -> list[int]:
    """Cover the pairs that have exactly this link with sets whose pairs have
    all at least this link, each grown by the device that covers most further
    pairs, the lowest of equals."""
    near = topology.find_neighbors(matrix, link)
    # Per device its partners by pairs that are still to be covered.
    open_ = [
        topology.make_mask(b for b, other in enumerate(row) if other == link)
        for row in matrix
    ]
    cliques = []
    for first in range(len(matrix)):
        while open_[first]:
            low = open_[first] & -open_[first]
            clique = 1 << first | low
            common = near[first] & near[low.bit_length() - 1]
            while common:
                gain, best = max(
                    ((open_[device] & clique).bit_count(), -device)
                    for device in topology.list_devices(common)
                )
                if not gain:
                    break
                clique |= 1 << -best
                common &= near[-best]
            for device in topology.list_devices(clique):
                open_[device] &= ~clique
            cliques.append(clique)
    return cliques


def _deny_numa(
    host: topology.Topology, groups: list[list[tuple[links.Link, int]]]
) -> None:
    """Give ``node`` groups of their own to devices whose NUMA nodes would say
    ``NODE`` of a pair that is ``SYS``."""
    number = 1 + max(
        (
            group
            for mine in groups
            for link, group in mine
            if link == links.NODE
        ),
        default=-1,
    )
    for a, b in itertools.combinations(range(host.n), 2):
        if (
            host.ways[a][b] == links.SYS
            and host.numa[a] is not None
            and host.numa[a] == host.numa[b]
        ):
            for device in (a, b):
                if all(link != links.NODE for link, _ in groups[device]):
                    groups[device].append((links.NODE, number))
                    number += 1
