# SPDX-License-Identifier: Apache-2.0

"""The hardware tree of a host, as both drawings show it."""

import dataclasses

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_LABELS = {Kind.GPU: "GPU", Kind.NIC: "NIC", Kind.NVSWITCH: "NVS"}


@dataclasses.dataclass
class Switch:
    """A PCIe switch, or a root bus, and what is below it."""

    name: str
    switches: list["Switch"] = dataclasses.field(default_factory=list)
    devices: list[Function] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Node:
    """A NUMA node and its root buses."""

    numa_node: int | None
    roots: tuple[Switch, ...]


def title(host: Inventory) -> str:
    """Say which host it is, and how many devices it has."""
    return (
        f"{host.hostname}: {_count(len(host.gpus), 'GPU', 's')},"
        f" {_count(len(host.nvswitches), 'NVSwitch', 'es')},"
        f" {_count(len(host.nics), 'RDMA NIC', 's')}"
    )


def _count(number: int, name: str, plural: str) -> str:
    return f"{number} {name}{'' if number == 1 else plural}"


def labels(host: Inventory) -> dict[PciAddress, str]:
    """Name the devices as nvidia-smi does: GPU0, NIC0; keyed by address.

    In the order in which they are to be listed.
    """
    named = {}
    for kind, prefix in _LABELS.items():
        for index, device in enumerate(host.physical(kind)):
            named[device.address] = f"{prefix}{index}"
    return named


def tree(host: Inventory) -> tuple[Node, ...]:
    """Arrange the devices by NUMA node, root bus and PCIe switch.

    Root ports, and ports of switches that lead to one device only, are left
    out: a drawing shows what devices share.
    """
    by_node: dict[int | None, dict[str, Switch]] = {}
    for device in host.devices:
        roots = by_node.setdefault(device.numa_node, {})
        name = device.root or "way not known"
        place = roots.setdefault(name, Switch(name))
        # Ports alternate: root port, upstream, downstream, upstream ...
        for upstream in device.bridges[1::2]:
            place = _below(place, f"switch {upstream}")
        place.devices.append(device)
    return tuple(
        Node(node, tuple(roots[name] for name in sorted(roots)))
        for node, roots in sorted(
            by_node.items(), key=lambda item: (item[0] is None, item[0] or 0)
        )
    )


def _below(place: Switch, name: str) -> Switch:
    for switch in place.switches:
        if switch.name == name:
            return switch
    switch = Switch(name)
    place.switches.append(switch)
    return switch


def nvlink_groups(
    host_links: linking.HostLinks,
) -> list[tuple[Link, tuple[Function, ...]]]:
    """List the NVLink groups: (link, GPUs all of whose pairs have it)."""
    described = host_links.device_links(host_links.devices)
    members: dict[tuple[Link, int], list[Function]] = {}
    for device in host_links.devices:
        for link, number in described[device.address].groups:
            if link > links.PIX:
                members.setdefault((link, number), []).append(device)
    return [
        (link, tuple(members[link, number]))
        for link, number in sorted(members, key=lambda key: (-key[0], key[1]))
    ]


def describe(function: Function) -> str:
    """Say in a few words what a device is: ``GRID K2``, ``ConnectX-7``."""
    return function.product or function.ids
