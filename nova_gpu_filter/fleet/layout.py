# SPDX-License-Identifier: Apache-2.0

"""Where the devices of a host are: frames in frames, from their link groups.

Placement tells groups, not the PCIe tree: devices of one group ``pix`` share a
PCIe switch, those of one group ``node`` a NUMA node, and so on. A group of a
nearer link lies within one of each farther link, so groups nest.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_NESTED: Final = (links.NODE, links.PHB, links.PXB, links.PIX)
"""The links over PCIe, from the outermost frame inwards."""

_WORDS: Final = {
    links.PHB: "host bridge",
    links.PXB: "PCIe switches",
    links.PIX: "PCIe switch",
}


@dataclasses.dataclass(frozen=True)
class Frame:
    """Devices that are near to each other, and frames of nearer ones."""

    link: Link | None
    """The least that all of them have; None for the host itself."""
    name: str
    frames: tuple["Frame", ...]
    devices: tuple[model.Device, ...]
    """Those in none of the frames."""


def frames(devices: Sequence[model.Device]) -> Frame:
    """Nest the devices of a host by their link groups over PCIe.

    A device whose traits cannot be read is in no frame but the outermost.
    """
    groups = {device.uuid: _groups(device) for device in devices}
    return _frame(None, "", devices, groups, _NESTED)


def node_numbers(devices: Iterable[model.Device]) -> list[int | None]:
    """Return the number of each device's ``node`` group; None without one."""
    found: list[int | None] = []
    for device in devices:
        numbers = [n for link, n in _groups(device) if link == links.NODE]
        found.append(numbers[0] if len(numbers) == 1 else None)
    return found


def nvlink_groups(
    devices: Iterable[model.Device],
) -> list[tuple[Link, int, tuple[model.Device, ...]]]:
    """List the NVLink groups: (link, number, devices), best link first."""
    members: dict[tuple[Link, int], list[model.Device]] = {}
    for device in devices:
        for link, number in _groups(device):
            if link > links.PIX:
                members.setdefault((link, number), []).append(device)
    return [
        (link, number, tuple(members[link, number]))
        for link, number in sorted(members, key=lambda key: (-key[0], key[1]))
    ]


def _groups(device: model.Device) -> tuple[tuple[Link, int], ...]:
    try:
        return codec.parse_traits(device.name, device.traits).groups
    except codec.LinkTextError:
        return ()


_Groups = dict[str, tuple[tuple[Link, int], ...]]


def _frame(
    link: Link | None,
    name: str,
    devices: Sequence[model.Device],
    groups: _Groups,
    levels: Sequence[Link],
) -> Frame:
    """Make a frame; ``levels`` are the links that may nest in it."""
    if not levels:
        return Frame(link, name, (), tuple(devices))
    level, inner = levels[0], levels[1:]
    inside: list[Frame] = []
    alone: list[model.Device] = []
    for near in _components(devices, groups, level):
        number = _number(near, groups, level)
        if len(near) == 1 and number is None:
            alone += near
        elif number is None:
            # Near by a link that lies deeper: the frame is made there.
            below = _frame(None, "", near, groups, inner)
            inside += below.frames
            alone += below.devices
        elif len(near) == 1 and level != links.NODE:
            alone += near
        else:
            inside.append(
                _frame(level, _name(level, number), near, groups, inner)
            )
    return Frame(link, name, tuple(inside), tuple(alone))


def _name(level: Link, number: int) -> str:
    if level == links.NODE:
        return f"NUMA node {number}"
    return f"{_WORDS[level]} ({links.name(level)} {number})"


def _components(
    devices: Sequence[model.Device], groups: _Groups, level: Link
) -> list[list[model.Device]]:
    """Put devices together that have a PCIe group of this link or a nearer
    one in common, in the order of their first device."""
    found: list[tuple[set[tuple[Link, int]], list[model.Device]]] = []
    for device in devices:
        keys = {g for g in groups[device.uuid] if level <= g[0] <= links.PIX}
        near = [part for part in found if part[0] & keys]
        if not near:
            found.append((keys, [device]))
            continue
        first, *others = near
        first[0].update(keys)
        first[1].append(device)
        for other in others:
            first[0].update(other[0])
            first[1].extend(other[1])
            found.remove(other)
    order = {device.uuid: place for place, device in enumerate(devices)}
    return [
        sorted(members, key=lambda device: order[device.uuid])
        for _, members in found
    ]


def _number(
    near: Iterable[model.Device], groups: _Groups, level: Link
) -> int | None:
    """Return the number of the group of this link that they have, if any."""
    numbers = {
        number
        for device in near
        for link, number in groups[device.uuid]
        if link == level
    }
    return min(numbers, default=None)
