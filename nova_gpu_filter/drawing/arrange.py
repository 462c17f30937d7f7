# SPDX-License-Identifier: Apache-2.0

"""Arranges devices by their link groups: frames in frames, and columns.

Placement has groups, not the PCIe tree: devices of one group ``pix`` share a
PCIe switch, those of one group ``node`` a NUMA node, and so on. A group of a
nearer link lies within one of each farther link, so groups nest.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.drawing import picture
from nova_gpu_filter.topology import groups as link_groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.codec import DeviceLinks
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import Topology

FABRIC: Final = "fabric"
"""The kind of columns that are fabric partitions."""

_NESTED: Final = (links.NODE, links.PHB, links.PXB, links.PIX)
"""The links over PCIe, from the outermost frame inwards."""

_NAMES: Final = {
    links.PHB: "host bridge",
    links.PXB: "PCIe switches",
    links.PIX: "PCIe switch",
}

_Links: TypeAlias = Mapping[str, DeviceLinks]
"""By the key of the device."""


def nest(boxes: Sequence[picture.Box], device_links: _Links) -> picture.Frame:
    """Nest devices by their link groups over PCIe.

    A device without any is in no frame but the outermost.
    """
    return _make_frame("", boxes, device_links, _NESTED)


def list_columns(
    boxes: Iterable[picture.Box], device_links: _Links
) -> Iterator[picture.Column]:
    """List link groups, best first, and partitions, by id.

    Without those that have one device.
    """
    keys_by_group: dict[tuple[Link, int], list[str]] = {}
    keys_by_partition: dict[tuple[int, int], list[str]] = {}
    for box in boxes:
        mine = device_links[box.key]
        for group in mine.groups:
            if links.is_direct(group[0]):
                keys_by_group.setdefault(group, []).append(box.key)
        for partition in mine.partitions:
            keys_by_partition.setdefault(partition, []).append(box.key)
    for link, number in sorted(keys_by_group, key=lambda g: (-g[0], g[1])):
        keys = keys_by_group[link, number]
        if len(keys) > 1:
            yield picture.Column(links.name(link), str(number), tuple(keys))
    for id_, size in sorted(keys_by_partition):
        keys = keys_by_partition[id_, size]
        if size > 1:
            yield picture.Column(
                FABRIC,
                f"{id_}/{size}",
                tuple(keys),
                is_partition=True,
                is_whole=len(keys) == size,
            )


def arrange_topology(
    name: str,
    topology: Topology,
    names: Sequence[str],
    owners: Sequence[str | None],
) -> picture.Picture:
    """Make the picture of a host of which the topology is known.

    :param names: PCI addresses, or what else devices are called, in the order
        of the topology.
    :param owners: who has each device; None if it is free.
    :raises ValueError: not one name and one owner a device.
    """
    if not len(names) == len(owners) == topology.n:
        raise ValueError(
            f"{topology.n} devices, {len(names)} names, {len(owners)} owners"
        )
    boxes = [
        picture.Box(
            key=device_name,
            label=device_name,
            text="",
            status=owner or "free",
            legend=owner or "free",
            color=owner,
            is_free=owner is None,
        )
        for device_name, owner in zip(names, owners, strict=True)
    ]
    nodes = dict(zip(names, topology.numa, strict=True))
    device_links = {
        key: _replace_node(mine, nodes[key])
        for key, mine in zip(
            names, link_groups.decompose(topology), strict=True
        )
    }
    boxes.sort(key=lambda box: (nodes[box.key] is None, nodes[box.key] or 0))
    return picture.Picture(
        name,
        summarize(len(boxes), owners.count(None)),
        nest(boxes, device_links),
        tuple(list_columns(boxes, device_links)),
    )


def summarize(devices: int, free: int) -> str:
    """Say how many devices a host has, and how many of them are free."""
    plural = "" if devices == 1 else "s"
    return f"{devices} device{plural}, {free} free"


def _replace_node(device_links: DeviceLinks, node: int | None) -> DeviceLinks:
    """Name the NUMA node as the host does: groups are numbered anew."""
    groups = [one for one in device_links.groups if one[0] != links.NODE]
    if node is not None:
        groups.append((links.NODE, node))
    return DeviceLinks(tuple(groups), device_links.partitions)


def _make_frame(
    name: str,
    boxes: Sequence[picture.Box],
    device_links: _Links,
    levels: Sequence[Link],
    is_strong: bool = False,
) -> picture.Frame:
    """Make a frame; ``levels`` are the links that may nest in it."""
    if not levels:
        return picture.Frame(name, (), tuple(boxes), is_strong)
    level, inner = levels[0], levels[1:]
    is_node = level == links.NODE
    inside: list[picture.Frame] = []
    alone: list[picture.Box] = []
    for near in _find_components(boxes, device_links, level):
        number = _find_number(near, device_links, level)
        if len(near) == 1 and number is None:
            alone += near
        elif number is None:
            # Near by a link that lies deeper: the frame is made there.
            below = _make_frame("", near, device_links, inner)
            inside += below.frames
            alone += below.boxes
        elif len(near) == 1 and not is_node:
            alone += near
        else:
            title = _name_frame(level, number)
            inside.append(
                _make_frame(title, near, device_links, inner, is_node)
            )
    return picture.Frame(name, tuple(inside), tuple(alone), is_strong)


def _name_frame(level: Link, number: int) -> str:
    if level == links.NODE:
        return f"NUMA node {number}"
    return f"{_NAMES[level]} ({links.name(level)} {number})"


def _find_components(
    boxes: Sequence[picture.Box], device_links: _Links, level: Link
) -> list[list[picture.Box]]:
    """Put devices together that have a PCIe group of this link or a nearer
    one in common, in the order of their first device."""
    found: list[tuple[set[tuple[Link, int]], list[picture.Box]]] = []
    for box in boxes:
        keys = {
            group
            for group in device_links[box.key].groups
            if level <= group[0] <= links.PIX
        }
        near = [part for part in found if not keys.isdisjoint(part[0])]
        found = [part for part in found if keys.isdisjoint(part[0])]
        joined = [member for _, members in near for member in members]
        keys = keys.union(*(theirs for theirs, _ in near))
        found.append((keys, [*joined, box]))
    order = {box.key: place for place, box in enumerate(boxes)}
    components = [
        sorted(members, key=lambda box: order[box.key]) for _, members in found
    ]
    return sorted(components, key=lambda members: order[members[0].key])


def _find_number(
    near: Iterable[picture.Box], device_links: _Links, level: Link
) -> int | None:
    """Return the number of the group of this link that they have, if any."""
    numbers = {
        number
        for box in near
        for link, number in device_links[box.key].groups
        if link == level
    }
    return min(numbers, default=None)
