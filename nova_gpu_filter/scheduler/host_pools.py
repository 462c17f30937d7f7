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


def read_pci_stats(pci_stats: stats.PciDeviceStats) -> matcher.HostPools:
    """View the free devices of a host state; nothing is copied."""
    return matcher.HostPools(pci_stats.pools)
