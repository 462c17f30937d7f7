# SPDX-License-Identifier: Apache-2.0

"""VFs of a guest: which GPUs they are of, and in which order."""

from collections.abc import Callable
from collections.abc import Collection

from nova_gpu_filter.agent.fabric import partition_of_guest
from nova_gpu_filter.agent.fabric import refusals
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

FindParent = Callable[[str], str | None]
"""Gives the PF of a VF; None for other devices. All are PCI addresses."""


def find(
    partitions: partition_of_guest.Partitions,
    devices: Collection[str],
    find_parent: FindParent,
) -> dict[str, str]:
    """Find the VFs among devices: GPU of a partition -> VF."""
    gpus = frozenset().union(*partitions.values())
    found = {}
    for device in devices:
        if device not in gpus:
            parent = find_parent(device)
            if parent in gpus:
                found[str(parent)] = device
    return found


def order(
    partition: int,
    vfs: Collection[str],
    listed: fabric_output.ListedPartition,
    find_parent: FindParent,
) -> list[PciAddress]:
    """Order the VFs of a guest as Fabric Manager orders the GPUs.

    :param listed: the partition, as Fabric Manager lists it.
    :raises NoOrder: it does not list the PCI addresses of the GPUs.
    """
    by_gpu = {find_parent(vf): vf for vf in vfs}
    if not by_gpu:
        return []
    ordered = [by_gpu.get(str(member.address)) for member in listed.members]
    if None in ordered:
        raise refusals.NoOrder(partition=partition, vfs=" ".join(vfs))
    return [PciAddress.parse(vf) for vf in ordered if vf is not None]
