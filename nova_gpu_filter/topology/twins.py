# SPDX-License-Identifier: Apache-2.0

"""Interchangeable devices: one choice among them stands for all.

Two devices are twins when swapping them changes neither a link nor the whole
fabric partitions. All GPUs on one NVSwitch are twins, so that 8 of 16 is one
case and not 12,870.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools

from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import devices_of
from nova_gpu_filter.topology.topology import mask_of


@functools.lru_cache(maxsize=1024)
def classes(topology: Topology) -> tuple[int, ...]:
    """Split all devices into classes of twins, as masks."""
    found: list[int] = []
    for device in range(topology.n):
        for index, mask in enumerate(found):
            # Swapping is an equivalence: one member speaks for its class.
            if _are_twins(topology, (mask & -mask).bit_length() - 1, device):
                found[index] |= 1 << device
                break
        else:
            found.append(1 << device)
    return tuple(found)


def _are_twins(topology: Topology, a: int, b: int) -> bool:
    if any(
        matrix[a][other] != matrix[b][other]
        for matrix in (topology.links, topology.ways)
        for other in range(topology.n)
        if other not in (a, b)
    ):
        return False
    both = 1 << a | 1 << b
    masks = {p.mask for p in topology.partitions if p.is_whole}
    return all(
        mask & both in (0, both) or mask ^ both in masks for mask in masks
    )


class FreeTwins:
    """The classes of a topology, among its free devices.

    The representative of a set has, of each class, as many devices, but the
    lowest free ones.
    """

    __slots__ = ("_lowest", "previous")

    def __init__(self, topology: Topology, free: int) -> None:
        # Of each class its mask and the masks of its 0, 1, 2, ... lowest.
        self._lowest: list[tuple[int, list[int]]] = []
        self.previous = [0] * topology.n
        """For each free device the twin before it, as a mask; else 0."""
        for mask in classes(topology):
            twins = devices_of(mask & free)
            for before, device in itertools.pairwise(twins):
                self.previous[device] = 1 << before
            self._lowest.append(
                (
                    mask & free,
                    [mask_of(twins[:n]) for n in range(len(twins) + 1)],
                )
            )

    def representative(self, mask: int) -> int:
        """Return the set that stands for this set of free devices."""
        found = 0
        for twins, lowest in self._lowest:
            found |= lowest[(mask & twins).bit_count()]
        return found

    def sets(
        self, representative: int, first: Sequence[int] = ()
    ) -> Iterator[int]:
        """Generate all sets that a representative stands for, lazily.

        :param first: devices that come first, the first of them before all.
        """
        place_by_device = {device: place for place, device in enumerate(first)}
        certain = 0
        choices: list[tuple[list[int], int]] = []
        for twins, lowest in self._lowest:
            number = (representative & twins).bit_count()
            if number == len(lowest) - 1:
                certain |= twins
            elif number:
                devices = devices_of(twins)
                if first:
                    devices.sort(
                        key=lambda device: place_by_device.get(
                            device, len(first)
                        )
                    )
                bits = [1 << device for device in devices]
                choices.append((bits, number))
        return _combine(certain, choices)

    def disjoint_sets(self, representative: int) -> list[int]:
        """List disjoint sets that a representative stands for, as many as
        there are."""
        shares = [
            (devices_of(twins), number)
            for twins, _ in self._lowest
            if (number := (representative & twins).bit_count())
        ]
        most = min(
            (len(devices) // number for devices, number in shares), default=0
        )
        return [
            mask_of(
                device
                for devices, number in shares
                for device in devices[number * index : number * (index + 1)]
            )
            for index in range(most)
        ]

    def count_representatives(self, k: int) -> int:
        """Count the representatives of sets of k devices."""
        if k > sum(len(lowest) - 1 for _, lowest in self._lowest):
            return 0
        # Coefficients of the product of 1 + x + ... + x^n over the classes.
        counts = [1] + [0] * k
        for _, lowest in self._lowest:
            counts = [
                sum(counts[max(0, size - len(lowest) + 1) : size + 1])
                for size in range(k + 1)
            ]
        return counts[k]


def _combine(
    certain: int, choices: Sequence[tuple[Sequence[int], int]]
) -> Iterator[int]:
    """Add to a set, in all ways, a number of devices from each class."""
    if not choices:
        yield certain
        return
    (bits, number), *others = choices
    for chosen in itertools.combinations(bits, number):
        yield from _combine(certain + sum(chosen), others)
