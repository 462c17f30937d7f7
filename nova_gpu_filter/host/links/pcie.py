# SPDX-License-Identifier: Apache-2.0

"""How two devices are connected over PCIe, in the words of nvidia-smi.

``nvidia-smi topo -m`` asks NVML for the common ancestor of two devices
(nvmlGpuTopologyLevel_t in nvml.h); the hierarchy in /sys/devices says the
same, also for devices that NVML does not see.
"""

from collections.abc import Collection
from collections.abc import Sequence

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link


def find_way(
    a: Function, b: Function, numa_nodes: Collection[int] = ()
) -> Link | None:
    """Tell the PCIe connection of two physical functions.

    :param numa_nodes: the NUMA nodes of the host. With at most one, devices
        whose node is not known are on it.
    :returns: ``links.SELF`` for the same device; None where sysfs does not
        show the way of both.
    """
    if a.address == b.address:
        return links.SELF
    if a.root is None or b.root is None:
        return None
    if a.root == b.root:
        shared = _count_shared(a.bridges, b.bridges)
        if not shared:
            return links.PHB
        crossed = _list_switches(a.bridges, shared) | _list_switches(
            b.bridges, shared
        )
        return links.PIX if len(crossed) <= 1 else links.PXB
    if len(numa_nodes) <= 1 or (
        a.numa_node is not None and a.numa_node == b.numa_node
    ):
        return links.NODE
    return links.SYS


def find_ways(
    devices: Sequence[Function], numa_nodes: Collection[int]
) -> tuple[tuple[Link | None, ...], ...]:
    """Tell the PCIe connection of each pair, rows in device order."""
    return tuple(
        tuple(find_way(a, b, numa_nodes) for b in devices) for a in devices
    )


def _count_shared(a: tuple[PciAddress, ...], b: tuple[PciAddress, ...]) -> int:
    """Count the bridges, from the root down, that both are below."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _list_switches(
    bridges: tuple[PciAddress, ...], shared: int
) -> set[PciAddress]:
    """Name the switches on the way up to the last shared bridge.

    Below a root port, ports of switches alternate: an upstream port and one
    of its downstream ports. So a bridge at an odd place is an upstream port,
    and the one below it belongs to the same switch, named by the upstream
    port::

        root port   switch        switch
        3f:01.0 --- 40:00.0 41:02.0 --- 42:00.0 43:00.0 --- GPU
        place 0     1       2           3       4
    """
    return {
        bridges[place - 1 + place % 2]
        for place in range(shared, len(bridges))
        if place
    }
