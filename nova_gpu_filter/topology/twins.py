# SPDX-License-Identifier: Apache-2.0

"""Interchangeable devices: one choice among them stands for all.

Two devices are twins when swapping them changes neither a link nor the whole
fabric partitions. All GPUs on one NVSwitch are twins, so that 8 of 16 is one
case and not 12,870.

So can whole classes of twins be: of 32 pairs of GPUs with a bridge any two do
as well as any others, so that 4 of 64 devices are three cases (two pairs; one
and two single devices; four single ones) and not 635,376.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools
import math
import operator
from typing import Final

from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import devices_of
from nova_gpu_filter.topology.topology import mask_of

_FEW_SETS: Final = 70
"""Up to so many sets of one class, 4 of 8, are listed at once."""


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
    for matrix in (topology.links, topology.ways):
        row, other_row = list(matrix[a]), list(matrix[b])
        # What the two are to each other and themselves does not matter.
        row[a], row[b] = other_row[a], other_row[b]
        if row != other_row:
            return False
    both = 1 << a | 1 << b
    by_device = _partitions_by_device(topology)
    # Partitions with both or none of them stay as they are.
    return all(
        mask ^ both in by_device[b if mask >> a & 1 else a]
        for mask in by_device[a] ^ by_device[b]
    )


@functools.lru_cache(maxsize=1024)
def _partitions_by_device(topology: Topology) -> tuple[frozenset[int], ...]:
    """List the whole fabric partitions that each device is in."""
    masks = [p.mask for p in topology.partitions if p.is_whole]
    return tuple(
        frozenset(mask for mask in masks if mask >> device & 1)
        for device in range(topology.n)
    )


@functools.lru_cache(maxsize=1024)
def orbits(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """Group the classes of twins that can change places as a whole."""
    found: list[list[int]] = []
    for mask in classes(topology):
        for orbit in found:
            # An equivalence, too.
            if _are_alike(topology, orbit[0], mask):
                orbit.append(mask)
                break
        else:
            found.append([mask])
    return tuple(map(tuple, found))


def _are_alike(topology: Topology, a: int, b: int) -> bool:
    """Whether two classes of twins can change places."""
    mine, others = devices_of(a), devices_of(b)
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
    by_device = _partitions_by_device(topology)
    # Those without any of these devices stay as they are.
    masks = frozenset().union(
        *(by_device[device] for device in (*mine, *others))
    )
    return all(
        mask_of(other_by_device.get(d, d) for d in devices_of(mask)) in masks
        for mask in masks
    )


class _Twins:
    """The free devices of one class."""

    __slots__ = ("devices", "lowest", "mask")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.devices = devices_of(mask)
        self.lowest = [
            mask_of(self.devices[:n]) for n in range(len(self.devices) + 1)
        ]
        """Masks of the 0, 1, 2, ... lowest."""


class FreeTwins:
    """The classes of a topology, among its free devices.

    The representative of a set has, of each class, as many devices, but the
    lowest free ones; of classes that can change places and have as many free
    devices, the first has the most.
    """

    __slots__ = ("_movable", "_orbits", "previous")

    def __init__(
        self, topology: Topology, free: int, are_classes_alike: bool = True
    ) -> None:
        """Find the classes.

        :param are_classes_alike: whether it makes no difference of which of
            the classes that can change places the devices are.
        """
        self._orbits: list[list[_Twins]] = []
        self.previous = [0] * topology.n
        """For each free device those that a representative with it has, too,
        as a mask: the twin before it, and its place in the class before."""
        for orbit in orbits(topology):
            last: _Twins | None = None
            for found in sorted(
                (_Twins(mask & free) for mask in orbit if mask & free),
                key=lambda twins: (len(twins.devices), twins.devices),
            ):
                for before, device in itertools.pairwise(found.devices):
                    self.previous[device] = 1 << before
                if (
                    are_classes_alike
                    and last is not None
                    and len(last.devices) == len(found.devices)
                    # So that sets can be built from low to high devices.
                    and all(map(operator.lt, last.devices, found.devices))
                ):
                    self._orbits[-1].append(found)
                    for before, device in zip(
                        last.devices, found.devices, strict=True
                    ):
                        self.previous[device] |= 1 << before
                else:
                    self._orbits.append([found])
                last = found
        self._movable = sum(
            twins.mask
            for orbit in self._orbits
            for twins in orbit
            if len(orbit) > 1 or len(twins.devices) > 1
        )
        """Devices that others can stand for."""

    def representative(self, mask: int) -> int:
        """Return the set that stands for this set of free devices."""
        representative = mask & ~self._movable
        if representative == mask:
            return mask
        for orbit in self._orbits:
            for number, twins in zip(
                _count_in(orbit, mask), orbit, strict=False
            ):
                representative |= twins.lowest[number]
        return representative

    def sets(
        self, representative: int, first: Sequence[int] = ()
    ) -> Iterator[int]:
        """Generate all sets that a representative stands for, lazily.

        :param first: devices that come first, the first of them before all.
        """
        if not representative & self._movable:
            return iter((representative,))
        place_by_device = {device: place for place, device in enumerate(first)}
        certain = 0
        choices: list[Callable[[], Iterable[int]]] = []
        for orbit in self._orbits:
            numbers = _count_in(orbit, representative)
            if not numbers:
                continue
            if len(orbit) > 1:
                choices.append(functools.partial(_arrange, orbit, numbers))
                continue
            [twins], [number] = orbit, numbers
            if number == len(twins.devices):
                certain |= twins.mask
                continue
            devices = twins.devices
            if first:
                devices = sorted(
                    devices,
                    key=lambda device: place_by_device.get(device, len(first)),
                )
            choices.append(functools.partial(_choose, devices, number))
        return _combine(certain, choices)

    def disjoint_sets(self, representative: int) -> list[int]:
        """List disjoint sets that a representative stands for."""
        shares = [
            (orbit, numbers)
            for orbit in self._orbits
            if (numbers := _count_in(orbit, representative))
        ]
        # Some classes together, or the same once more with other devices.
        most = min(
            (
                (len(orbit) // len(numbers))
                * (len(orbit[0].devices) // numbers[0])
                for orbit, numbers in shares
            ),
            default=0,
        )
        return [
            mask_of(
                device
                for orbit, numbers in shares
                for device in _take_share(orbit, numbers, index)
            )
            for index in range(most)
        ]

    def count_representatives(self, k: int) -> int:
        """Count the representatives of sets of k devices."""
        if k > sum(
            len(orbit) * len(orbit[0].devices) for orbit in self._orbits
        ):
            return 0
        # Coefficients of the product of a polynomial for each orbit.
        counts = [1] + [0] * k
        for orbit in self._orbits:
            ways = _count_ways(len(orbit), len(orbit[0].devices), k)
            counts = [
                sum(
                    ways[taken] * counts[size - taken]
                    for taken in range(min(size, len(ways) - 1) + 1)
                )
                for size in range(k + 1)
            ]
        return counts[k]


def _count_in(orbit: Sequence[_Twins], mask: int) -> list[int]:
    """Count how many devices a set has of each class, the most first; without
    the classes of which it has none."""
    counts = [(mask & twins.mask).bit_count() for twins in orbit]
    if len(counts) > 1:
        counts.sort(reverse=True)
    while counts and not counts[-1]:
        counts.pop()
    return counts


def _count_ways(classes_: int, devices: int, k: int) -> list[int]:
    """Count the representatives within one orbit.

    These are the partitions of a number into at most as many parts as there
    are classes, none greater than the devices of one.

    :returns: by the number of devices, from 0 to k or to all there are.
    """
    if classes_ == 1:
        return [1] * (min(k, devices) + 1)
    most = min(k, classes_ * devices)
    # By the number of parts, and by their sum.
    ways = [[0] * (most + 1) for _ in range(classes_ + 1)]
    ways[0][0] = 1
    for part in range(1, devices + 1):
        for parts in range(1, classes_ + 1):
            for total in range(part, most + 1):
                ways[parts][total] += ways[parts - 1][total - part]
    return [sum(by_total) for by_total in zip(*ways, strict=True)]


def _take_share(
    orbit: Sequence[_Twins], numbers: Sequence[int], index: int
) -> Iterator[int]:
    """Generate devices of an orbit that no other index has."""
    group, again = divmod(index, len(orbit[0].devices) // numbers[0])
    for twins, number in zip(
        orbit[group * len(numbers) :], numbers, strict=False
    ):
        start = again * numbers[0]
        yield from twins.devices[start : start + number]


def _choose(devices: Sequence[int], number: int) -> Iterator[int]:
    """Generate the sets of so many devices, the first devices first."""
    bits = [1 << device for device in devices]
    return map(sum, itertools.combinations(bits, number))


def _arrange(orbit: Sequence[_Twins], numbers: Sequence[int]) -> Iterator[int]:
    """Generate the sets that have such numbers of devices of some classes.

    :param numbers: descending.
    """
    if not numbers:
        return iter((0,))
    number = numbers[0]
    alike = numbers.count(number)
    choices: list[Callable[[], Iterable[int]]] = [
        functools.partial(_choose, twins.devices, number) for twins in orbit
    ]
    if math.comb(len(orbit[0].devices), number) <= _FEW_SETS:
        choices = [list(choose()).__iter__ for choose in choices]

    def arrange_at(places: tuple[int, ...]) -> Iterator[int]:
        found = _combine(0, [choices[place] for place in places])
        if alike == len(numbers):
            return found
        left = [
            twins for place, twins in enumerate(orbit) if place not in places
        ]
        return itertools.chain.from_iterable(
            map(mask.__or__, _arrange(left, numbers[alike:])) for mask in found
        )

    return itertools.chain.from_iterable(
        map(arrange_at, itertools.combinations(range(len(orbit)), alike))
    )


def _combine(
    certain: int, choices: Sequence[Callable[[], Iterable[int]]]
) -> Iterator[int]:
    """Add to a set, in all ways, one of each choice."""
    if not choices:
        return iter((certain,))
    choose, *others = choices
    if not others:
        return map(certain.__or__, choose())
    return itertools.chain.from_iterable(
        _combine(certain | chosen, others) for chosen in choose()
    )
