# SPDX-License-Identifier: Apache-2.0

"""The sets that one choice among interchangeable free devices stands for."""

from collections.abc import Sequence
import functools
import itertools
import math
import operator

from nova_gpu_filter.topology import twins as twin_classes
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import list_devices


class _Twins:
    """The free devices of one class."""

    __slots__ = ("bits", "devices", "lowest", "mask")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.devices = list_devices(mask)
        self.bits = [1 << device for device in self.devices]
        self.lowest = [0, *itertools.accumulate(self.bits)]
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
        found_orbits: list[list[_Twins]] = []
        self.previous = [0] * topology.n
        """For each free device those that a representative with it has, too,
        as a mask: the twin before it, and its place in the class before."""
        for orbit in twin_classes.find_orbits(topology):
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
                    found_orbits[-1].append(found)
                    for before, device in zip(
                        last.devices, found.devices, strict=True
                    ):
                        self.previous[device] |= 1 << before
                else:
                    found_orbits.append([found])
                last = found
        self._orbits = [
            (sum(twins.mask for twins in orbit), orbit)
            for orbit in found_orbits
        ]
        """Classes that can change places, and the mask of all of them."""
        self._movable = sum(
            everything
            for everything, orbit in self._orbits
            if len(orbit) > 1 or len(orbit[0].devices) > 1
        )
        """Devices that others can stand for."""

    def find_representative(self, mask: int) -> int:
        """Return the set that stands for this set of free devices."""
        movable = mask & self._movable
        if not movable:
            return mask
        representative = mask ^ movable
        for everything, orbit in self._orbits:
            if movable & everything:
                for number, twins in zip(
                    _count_in(orbit, mask), orbit, strict=False
                ):
                    representative |= twins.lowest[number]
        return representative

    def list_sets(
        self, representative: int, limit: int, first: Sequence[int] = ()
    ) -> list[int]:
        """List the sets that a representative stands for.

        :param limit: most sets that are listed.
        :param first: devices that come first, the first of them before all.
        """
        movable = representative & self._movable
        if not movable:
            return [representative]
        place_by_bit = {
            1 << device: place for place, device in enumerate(first)
        }
        lists = [[representative ^ movable]]
        for everything, orbit in self._orbits:
            if not movable & everything:
                continue
            numbers = _count_in(orbit, representative)
            if len(orbit) > 1:
                lists.append(_arrange(orbit, numbers, limit))
                continue
            bits = orbit[0].bits
            if first:
                bits = sorted(
                    bits, key=lambda bit: place_by_bit.get(bit, len(first))
                )
            lists.append(_choose(bits, numbers[0], limit))
        return _unite(lists, limit)

    def locate(self, mask: int) -> tuple[int, int]:
        """Say which place a set has in :meth:`list_sets` of its
        representative, and how many there are."""
        place, number = 0, 1
        movable = mask & self._movable
        if not movable:
            return place, number
        for everything, orbit in self._orbits:
            if movable & everything:
                numbers = _count_in(orbit, mask)
                at, of = _locate(orbit, numbers, mask)
                place, number = place * of + at, number * of
        return place, number

    def count_sets(self, representative: int) -> int:
        """Count the sets that a representative stands for."""
        number = 1
        movable = representative & self._movable
        for everything, orbit in self._orbits if movable else ():
            if movable & everything:
                number *= _count_arrangements(
                    len(orbit),
                    len(orbit[0].devices),
                    *_count_in(orbit, representative),
                )
        return number

    def may_fit(self, representative: int, left: int) -> bool:
        """Whether any set that a representative stands for may be within some
        devices, by the numbers of those in classes that can change places."""
        return all(
            (left & everything).bit_count()
            >= (representative & everything).bit_count()
            for everything, _ in self._orbits
        )

    def list_disjoint_sets(self, representative: int) -> list[int]:
        """List disjoint sets that a representative stands for."""
        shares = [
            (orbit, _count_in(orbit, representative))
            for everything, orbit in self._orbits
            if representative & everything
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
            sum(
                _take_share(orbit, numbers, index) for orbit, numbers in shares
            )
            for index in range(most)
        ]

    def count_representatives(self, k: int) -> int:
        """Count the representatives of sets of k devices."""
        if k > sum(
            len(orbit) * len(orbit[0].devices) for _, orbit in self._orbits
        ):
            return 0
        # Coefficients of the product of a polynomial for each orbit.
        counts = [1] + [0] * k
        for _, orbit in self._orbits:
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
    """Count the representatives within one orbit: partitions of a number into
    at most as many parts as there are classes, none greater than one.

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
) -> int:
    """Take devices of an orbit that no other index has, as a mask."""
    group, again = divmod(index, len(orbit[0].devices) // numbers[0])
    start = again * numbers[0]
    return sum(
        twins.lowest[start + number] ^ twins.lowest[start]
        for twins, number in zip(
            orbit[group * len(numbers) :], numbers, strict=False
        )
    )


def _choose(masks: Sequence[int], number: int, limit: int) -> list[int]:
    """List the first unions of so many of some disjoint sets."""
    return list(
        itertools.islice(
            map(sum, itertools.combinations(masks, number)), limit
        )
    )


def _arrange(
    orbit: Sequence[_Twins], numbers: Sequence[int], limit: int
) -> list[int]:
    """List the first sets that have such numbers of devices of some classes.

    :param numbers: descending.
    """
    number = numbers[0]
    alike = numbers.count(number)
    if number == len(orbit[0].devices) and alike == len(numbers):
        return _choose([twins.mask for twins in orbit], alike, limit)

    chosen_at: dict[int, list[int]] = {}
    found: list[int] = []
    for places in itertools.combinations(range(len(orbit)), alike):
        for place in places:
            if place not in chosen_at:  # the first places may be enough
                chosen_at[place] = _choose(orbit[place].bits, number, limit)
        chosen = [chosen_at[place] for place in places]
        if alike < len(numbers):
            left = [
                twins
                for place, twins in enumerate(orbit)
                if place not in places
            ]
            chosen.append(_arrange(left, numbers[alike:], limit - len(found)))
        found += _unite(chosen, limit - len(found))
        if len(found) == limit:
            break
    return found


@functools.lru_cache(maxsize=4096)
def _count_arrangements(classes_: int, devices: int, *numbers: int) -> int:
    """Count the sets of :func:`_arrange`.

    :param classes_: in the orbit, each of so many devices.
    :param numbers: descending.
    """
    ways = 1
    for number in numbers:
        ways *= math.comb(devices, number)
    for number in set(numbers):
        alike = numbers.count(number)
        ways *= math.comb(classes_, alike)
        classes_ -= alike
    return ways


def _unite(lists: Sequence[Sequence[int]], limit: int) -> list[int]:
    """List the first unions of one set of each list, that of the last list
    changing first."""
    found = [0]
    certain = 0
    for masks in reversed(lists):
        if len(masks) == 1 or len(found) >= limit:
            certain |= masks[0]
        else:
            some = masks[: -(-limit // len(found))]
            found = [one | other for one in some for other in found]
    del found[limit:]
    return [certain | mask for mask in found] if certain else found


def _locate(
    orbit: Sequence[_Twins], numbers: Sequence[int], mask: int
) -> tuple[int, int]:
    """Return the place of a set in :func:`_arrange`, and how many are there.

    :param numbers: of its devices in some classes, descending.
    """
    if not numbers:
        return 0, 1
    count = numbers.count(numbers[0])
    places = []
    left = []
    for index, twins in enumerate(orbit):
        if (mask & twins.mask).bit_count() == numbers[0]:
            places.append(index)
        else:
            left.append(twins)
    place, number = _locate_combination(places, len(orbit))
    for index in places:
        twins = orbit[index]
        chosen = [at for at, bit in enumerate(twins.bits) if mask & bit]
        at, of = _locate_combination(chosen, len(twins.bits))
        place, number = place * of + at, number * of
    at, of = _locate(left, numbers[count:], mask)
    return place * of + at, number * of


def _locate_combination(chosen: Sequence[int], n: int) -> tuple[int, int]:
    """Return the place of a combination in the order of ``itertools``, and
    how many there are.

    :param chosen: some of the first n numbers, ascending.
    """
    k = len(chosen)
    number = math.comb(n, k)
    after = sum(
        math.comb(n - 1 - element, k - place)
        for place, element in enumerate(chosen)
    )
    return number - 1 - after, number
