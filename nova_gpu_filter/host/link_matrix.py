# SPDX-License-Identifier: Apache-2.0

"""Writes the matrix of links that ``nvidia-smi topo -m`` would print."""

from collections.abc import Iterator

from nova_gpu_filter.host import hardware_picture
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.topology import links


def draw(host: Inventory, host_links: HostLinks) -> str:
    """Write the matrix as lines; empty for a host with no two devices."""
    if len(host_links.devices) < 2:
        return ""
    return "\n".join(_write_lines(host, host_links)) + "\n"


def _write_lines(host: Inventory, host_links: HostLinks) -> Iterator[str]:
    labels = hardware_picture.name_devices(host)
    places = [host_links.place[address] for address in labels]
    names = list(labels.values())
    width = max(map(len, (*names, "NODE?"))) + 1
    yield (" " * width + "".join(name.ljust(width) for name in names)).rstrip()
    for name, row in zip(names, places, strict=True):
        cells = [_format_cell(host_links, row, column) for column in places]
        yield "".join(cell.ljust(width) for cell in (name, *cells)).rstrip()
    if any(
        not host_links.is_certain(a, b)
        for a in host_links.devices
        for b in host_links.devices
        if a is not b
    ):
        yield "?  the link over PCIe; whether there is an NVLink is unknown"


def _format_cell(host_links: HostLinks, a: int, b: int) -> str:
    link = host_links.matrix[a][b]
    if link is None:
        return "-"
    name = links.name(link)
    one, other = host_links.devices[a], host_links.devices[b]
    if a != b and not host_links.is_certain(one, other):
        name += "?"
    return name
