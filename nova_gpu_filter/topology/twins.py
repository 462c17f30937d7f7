# SPDX-License-Identifier: Apache-2.0

"""Interchangeable devices: one choice among them stands for all.

Two devices are twins when swapping them changes neither a link nor the whole
fabric partitions. All GPUs on one NVSwitch are twins, so that 8 of 16 is one
case and not 12,870. So can whole classes of twins be: 4 of 32 pairs of GPUs
with a bridge are three cases (two pairs; one and two single devices; four
single ones) and not 635,376.
"""

from collections.abc import Callable
from collections.abc import Iterable
import functools

from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices
from nova_gpu_filter.topology.topology import make_mask


@functools.lru_cache(maxsize=1024)
def find_twin_classes(topology: Topology) -> tuple[int, ...]:
    """Split all devices into classes of twins, as masks."""
    are_twins = functools.partial(_are_twins, topology)
    return tuple(map(make_mask, _split(range(topology.n), are_twins)))


@functools.lru_cache(maxsize=1024)
def find_orbits(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """Group the classes of twins that can change places as a whole."""
    are_alike = functools.partial(_are_alike, topology)
    return tuple(map(tuple, _split(find_twin_classes(topology), are_alike)))


def _split(
    elements: Iterable[int], are_equal: Callable[[int, int], bool]
) -> list[list[int]]:
    """Split elements by an equivalence: one speaks for all of its class."""
    found: list[list[int]] = []
    for element in elements:
        for mine in found:
            if are_equal(mine[0], element):
                mine.append(element)
                break
        else:
            found.append([element])
    return found


def _are_twins(topology: Topology, a: int, b: int) -> bool:
    for matrix in (topology.links, topology.ways):
        row, other_row = list(matrix[a]), list(matrix[b])
        # What the two are to each other and themselves does not matter.
        row[a], row[b] = other_row[a], other_row[b]
        if row != other_row:
            return False
    both = 1 << a | 1 << b
    by_device = _list_partitions_by_device(topology)
    # Partitions with both or none of them stay as they are.
    return all(
        mask ^ both in by_device[b if mask >> a & 1 else a]
        for mask in by_device[a] ^ by_device[b]
    )


@functools.lru_cache(maxsize=1024)
def _list_partitions_by_device(
    topology: Topology,
) -> tuple[frozenset[int], ...]:
    """List the whole fabric partitions that each device is in."""
    masks = [p.mask for p in topology.partitions if p.is_whole]
    return tuple(
        frozenset(mask for mask in masks if mask >> device & 1)
        for device in range(topology.n)
    )


def _are_alike(topology: Topology, a: int, b: int) -> bool:
    """Whether two classes of twins can change places."""
    mine, others = list_devices(a), list_devices(b)
    # Two devices that can change places would be one class.
    if len(mine) != len(others) or len(mine) == 1:
        return False
    for matrix in (topology.links, topology.ways):
        # One of the twins speaks for all, but to each other.
        row, other_row = matrix[mine[0]], matrix[others[0]]
        if row[mine[1]] != other_row[others[1]] or any(
            row[device] != other_row[device]
            for device in range(topology.n)
            if not (a | b) >> device & 1
        ):
            return False
    other_by_device = dict(zip(mine, others, strict=True))
    other_by_device |= dict(zip(others, mine, strict=True))
    by_device = _list_partitions_by_device(topology)
    # Those without any of these devices stay as they are.
    masks = frozenset().union(
        *(by_device[device] for device in (*mine, *others))
    )
    return all(
        make_mask(other_by_device.get(d, d) for d in list_devices(mask))
        in masks
        for mask in masks
    )
