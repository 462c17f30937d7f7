# SPDX-License-Identifier: Apache-2.0

"""Translate a host state of nova into what a pool matcher reads."""

from nova.pci import stats

from nova_gpu_filter.pools import matcher


def is_readable(pci_stats) -> bool:
    """Whether the pools say everything that ``pci_stats`` would answer.

    A subclass, or anything else that somebody put in its place, may decide
    otherwise than ``PciDeviceStats`` does: it has to be asked itself.
    """
    return type(pci_stats) is stats.PciDeviceStats


def from_pci_stats(
    pci_stats: stats.PciDeviceStats, with_sockets: bool = False
) -> matcher.HostPools:
    """View the free devices of a host state; nothing is copied.

    :param with_sockets: also read the CPU socket of each host NUMA cell, for
        requests with NUMA cells and the policy ``socket``.
    """
    sockets = {}
    if with_sockets and pci_stats.numa_topology is not None:
        cells = pci_stats.numa_topology.cells
        sockets = {cell.id: cell.socket for cell in cells}
    return matcher.HostPools(pci_stats.pools, sockets)
