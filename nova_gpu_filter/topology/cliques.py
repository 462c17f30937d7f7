# SPDX-License-Identifier: Apache-2.0

"""Sets of devices that are all linked with each other."""

from collections.abc import Iterator
from collections.abc import Sequence


class Steps:
    """How much more work a search may do: on tens of devices whose links have
    no order it would not end."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left
        """Devices to look at, or pairs of them; negative when it is over."""

    def take(self, number: int = 1) -> bool:
        """Take some steps; say whether they were left."""
        self.left -= number
        return self.left >= 0


def generate_sets(
    near: Sequence[int], within: int, k: int, steps: Steps
) -> Iterator[int]:
    """Generate the sets of k devices that are all near each other.

    :param near: for each device the mask of its neighbors.
    :param within: devices to choose from.
    :param steps: a step is a device that is looked at.
    :returns: masks, those with low devices first.
    """
    if k == 0:
        yield 0
        return
    while within.bit_count() >= k and steps.take():
        low = within & -within
        within ^= low
        for rest in generate_sets(
            near, within & near[low.bit_length() - 1], k - 1, steps
        ):
            yield low | rest


def find_set(near: Sequence[int], within: int, k: int, steps: Steps) -> int:
    """Find the first set of :func:`generate_sets`, in less time.

    :param k: at least 1.
    :returns: its mask; 0 when there is none, or the steps do not suffice.
    """
    while within.bit_count() >= k and steps.take():
        low = within & -within
        if k == 1:
            return low
        within ^= low
        others = within & near[low.bit_length() - 1]
        if others.bit_count() >= k - 1:
            rest = find_set(near, others, k - 1, steps)
            if rest:
                return low | rest
    return 0


def list_components(near: Sequence[int], within: int) -> list[int]:
    """Split devices into sets with no link from one to another."""
    found = []
    while within:
        component = frontier = within & -within
        while frontier:
            low = frontier & -frontier
            reached = near[low.bit_length() - 1] & within & ~component
            component |= reached
            frontier = (frontier ^ low) | reached
        found.append(component)
        within ^= component
    return found


def is_clique(near: Sequence[int], mask: int) -> bool:
    """Whether all devices of a set are near each other."""
    rest = mask
    while rest:
        low = rest & -rest
        rest ^= low
        if rest & ~near[low.bit_length() - 1]:
            return False
    return True


def find_largest_clique(near: Sequence[int], within: int, steps: Steps) -> int:
    """Find a largest set of devices that are all near each other.

    Branch and bound with a greedy coloring: devices of one color are pairwise
    not near, so a set has at most as many devices as there are colors.

    :param steps: a step is a device that is looked at.
    :returns: its mask; always the same one of equals. The largest that was
        found, where steps do not suffice.
    """
    best = 0

    def extend(clique: int, candidates: int) -> None:
        nonlocal best
        if clique.bit_count() > best.bit_count():
            best = clique
        for device, colors in reversed(_color(near, candidates)):
            if (
                clique.bit_count() + colors <= best.bit_count()
                or not steps.take()
            ):
                return
            extend(clique | 1 << device, candidates & near[device])
            candidates ^= 1 << device

    extend(0, within)
    return best


def _color(near: Sequence[int], devices: int) -> list[tuple[int, int]]:
    """List (device, number of colors up to it), color by color."""
    colored = []
    colors = 0
    while devices:
        colors += 1
        one_color = devices
        while one_color:
            low = one_color & -one_color
            device = low.bit_length() - 1
            devices ^= low
            one_color &= ~(low | near[device])
            colored.append((device, colors))
    return colored
