# SPDX-License-Identifier: Apache-2.0

"""Draws the devices of a host, their links and their owners as text.

For a terminal of any encoding. A row is a device, a column is a link group or
a fabric partition::

    hgx-1: 4 devices, 2 free
                             NV18  fabric
    NUMA node 0               0    0/4  1/2  2/2
      0000:1b:00.0  train-1   #     #    #
      0000:43:00.0  free      o     o    |    o
    NUMA node 1               |     |    |    |
      0000:9d:00.0  train-1   #     #    #    |
      0000:c3:00.0  free      o     o         o
    # taken, o free; below fabric: partition id/devices
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import unicodedata

from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology

_TAKEN = "#"
_FREE = "o"
_BETWEEN = "|"
_FABRIC = "fabric"
_LEGEND = f"{_TAKEN} taken, {_FREE} free"
_FABRIC_LEGEND = "; below fabric: partition id/devices"


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    """A link group, or a fabric partition."""

    kind: str
    name: str
    mask: int
    """The devices that belong to it."""


def draw(
    title: str,
    topology: Topology,
    names: Sequence[str],
    owners: Sequence[str | None],
) -> str:
    """Draw a host.

    NUMA nodes are headings, so ``NODE`` groups have no columns; nor has what
    only one device belongs to.

    :param title: what to call the host.
    :param names: PCI addresses, or what else devices are called, in the order
        of the topology.
    :param owners: who has each device; None if it is free.
    :returns: lines, without a newline at the end.
    :raises ValueError: not one name and one owner a device.
    """
    if not len(names) == len(owners) == topology.n:
        raise ValueError(
            f"{topology.n} devices, {len(names)} names, {len(owners)} owners"
        )
    rows = _rows(topology, names, owners)
    columns = [*_groups(topology), *_partitions(topology)]
    width = max((_width(text) for text, _ in rows), default=0)
    lines = [_title(title, owners)]
    if columns:
        lines.append(" " * width + _kinds(columns))
    for place, (text, _) in enumerate(rows):
        if place == 0:
            cells = [column.name for column in columns]
        else:
            cells = [
                _mark(column.mask, rows, place, owners).center(
                    len(column.name)
                )
                for column in columns
            ]
        lines.append("  ".join([_pad(text, width), *cells]))
    if columns:
        fabric = any(column.kind == _FABRIC for column in columns)
        lines.append(_LEGEND + (_FABRIC_LEGEND if fabric else ""))
    return "\n".join(line.rstrip() for line in lines)


_Row = tuple[str, int | None]
"""A text, and the device it is about; None for a heading."""


def _title(title: str, owners: Sequence[str | None]) -> str:
    plural = "" if len(owners) == 1 else "s"
    return f"{title}: {len(owners)} device{plural}, {owners.count(None)} free"


def _rows(
    topology: Topology,
    names: Sequence[str],
    owners: Sequence[str | None],
) -> list[_Row]:
    """Write devices below the headings of their NUMA nodes."""
    longest = max(map(_width, names), default=0)
    devices_by_node: dict[int | None, list[int]] = {}
    for device, node in enumerate(topology.numa):
        devices_by_node.setdefault(node, []).append(device)
    rows: list[_Row] = []
    for node in sorted(
        devices_by_node, key=lambda node: (node is None, node or 0)
    ):
        name = "not known" if node is None else str(node)
        rows.append((f"NUMA node {name}", None))
        rows += [
            (
                f"  {_pad(names[device], longest)}"
                f"  {owners[device] or 'free'}",
                device,
            )
            for device in devices_by_node[node]
        ]
    return rows


def _width(text: str) -> int:
    """Count the columns that a text takes in a terminal."""
    return sum(
        0
        if unicodedata.combining(character)
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _mark(
    mask: int,
    rows: Sequence[_Row],
    place: int,
    owners: Sequence[str | None],
) -> str:
    """Say whether the device of a row belongs to a set of devices, or lies
    between some that do."""

    def belongs(device: int | None) -> bool:
        return device is not None and bool(mask >> device & 1)

    device = rows[place][1]
    if device is not None and belongs(device):
        return _FREE if owners[device] is None else _TAKEN
    above = any(belongs(other) for _, other in rows[:place])
    below = any(belongs(other) for _, other in rows[place:])
    return _BETWEEN if above and below else ""


def _kinds(columns: Sequence[_Column]) -> str:
    """Write the kinds above the names of the columns."""
    line = ""
    for kind, alike in itertools.groupby(columns, lambda column: column.kind):
        width = sum(2 + len(column.name) for column in alike)
        line += f"  {kind}".ljust(width)
    return line


def _groups(topology: Topology) -> Iterator[_Column]:
    masks: dict[tuple[int, int], int] = {}
    for device, device_links in enumerate(groups.decompose(topology)):
        for link, number in device_links.groups:
            if link > links.NODE:
                key = -link, number
                masks[key] = masks.get(key, 0) | 1 << device
    # As wide as the name of their kind, so that it has room above them.
    for (negative, number), mask in sorted(masks.items()):
        kind = links.name(links.Link(-negative))
        yield _Column(kind, str(number).center(len(kind)), mask)


def _partitions(topology: Topology) -> Iterator[_Column]:
    for partition in topology.partitions:
        if partition.size > 1:
            name = f"{partition.id}/{partition.size}"
            yield _Column(_FABRIC, name, partition.mask)
