# SPDX-License-Identifier: Apache-2.0

"""Which devices share a NUMA node, and which nodes can serve a request.

What a guest may use of a host is decided after Placement has answered, by
NUMATopologyFilter. A candidate is therefore offered within each least set of
nodes that can serve the request. A device of which the traits do not say where
it is counts as a node of its own.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import math

from nova_gpu_filter.placement import trees
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import host_topologies

MOST_UNIONS = 1000
"""Where there are more least sets of nodes, none is looked for. Nova asks for
as many candidates of all hosts ([scheduler]max_placement_results), and the 70
sets of 4 out of 8 devices are far below it."""

_MOST_TRIED = 10_000
"""Sets of nodes that are tried for one host."""

_LOCAL_PREFIXES = tuple(
    f"{codec.LINK_TRAIT_PREFIX}{name}_"
    for name in ("NODE", "PHB", "PXB", "PIX")
)
"""Traits of links that do not leave a NUMA node: nvidia-smi topo -m, legend.
NVLink does, so it says nothing about nodes."""


def number_places(traits: Sequence[Iterable[str]]) -> Sequence[int]:
    """Number the places of devices: two that share a local link have one.

    :param traits: of the provider of each device.
    :returns: the place of each device; numbers ascend from 0 in the order of
        the first device.
    """
    return _number_places(
        tuple(
            host_topologies.keep_traits(tuple(found), _LOCAL_PREFIXES)
            for found in traits
        )
    )


@functools.lru_cache(maxsize=4096)
def _number_places(groups: tuple[tuple[str, ...], ...]) -> Sequence[int]:
    joined = list(range(len(groups)))
    first_by_group: dict[str, int] = {}
    for device, mine in enumerate(groups):
        for group in mine:
            other = first_by_group.setdefault(group, device)
            old, new = joined[device], joined[other]
            joined = [new if place == old else place for place in joined]
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(place, len(numbers)) for place in joined)


@functools.lru_cache(maxsize=4096)
def find_least_unions(
    capacities: tuple[tuple[int, ...], ...],
    sizes: tuple[int, ...],
    given: int = 0,
) -> tuple[Sequence[int], int]:
    """List the least sets of places that can serve a request.

    Least means: without one of its places it could not.

    :param capacities: for each place, how many groups of each class its
        devices can serve.
    :param sizes: how many groups each class has.
    :param given: mask of places that are used in any case.
    :returns: (masks, few places first; how many sets were tried). There are
        no masks at all where there are more than :data:`MOST_UNIONS`, or where
        finding them takes too long.
    """
    tried = 0
    found = [given]
    for classes, numbers in _split(capacities):
        part = tuple(
            tuple(capacities[number][index] for index in classes)
            for number in numbers
        )
        wanted = [sizes[index] for index in classes]

        def count_and_ask(
            union: int,
            part: tuple[tuple[int, ...], ...] = part,
            wanted: Sequence[int] = wanted,
        ) -> bool:
            nonlocal tried
            tried += 1
            if tried > _MOST_TRIED:
                raise TooManyError
            return can_serve(part, wanted, union)

        given_of_part = sum(
            (given >> number & 1) << place
            for place, number in enumerate(numbers)
        )
        of_part = search_unions(len(part), count_and_ask, given_of_part)
        if len(found) * len(of_part) > MOST_UNIONS:
            return (), tried
        masks = [
            sum(
                1 << number
                for place, number in enumerate(numbers)
                if union >> place & 1
            )
            for union in of_part
        ]
        found = [union | mask for union in found for mask in masks]
    return tuple(sorted(found, key=int.bit_count)), tried


def _split(
    capacities: Sequence[Sequence[int]],
) -> list[tuple[list[int], list[int]]]:
    """Split classes into those that no place serves together.

    :returns: (classes, places that serve one of them) of each part.
    """
    parts = [
        {index}
        for capacity in capacities[:1]
        for index in range(len(capacity))
    ]
    for capacity in capacities:
        served = {index for index, share in enumerate(capacity) if share}
        touched = [classes for classes in parts if classes & served]
        if len(touched) > 1:
            parts = [classes for classes in parts if not classes & served]
            parts.append(set().union(*touched))
    return [
        (
            sorted(classes),
            [
                number
                for number, capacity in enumerate(capacities)
                if any(capacity[index] for index in classes)
            ],
        )
        for classes in parts
    ]


def can_serve(
    capacities: Sequence[Sequence[int]], sizes: Sequence[int], union: int
) -> bool:
    """Whether a set of places could serve each class if it were alone."""
    used = [
        capacity
        for place, capacity in enumerate(capacities)
        if union >> place & 1
    ]
    return all(
        sum([capacity[index] for capacity in used]) >= size
        for index, size in enumerate(sizes)
    )


def count_tried(
    capacities: Sequence[Sequence[int]], sizes: Sequence[int], given: int
) -> int:
    """Count the sets of places that a search tries at least.

    :param capacities: as for :func:`find_least_unions`, and so are the
        others; they may promise more than fits.
    :returns: how often :func:`search_unions` asks whether a set fits, if all
        places together do.
    """
    others = len(capacities) - given.bit_count()
    fewest = 0
    for index, size in enumerate((*sizes, sum(sizes))):
        # One class, and at last all together.
        shares = [
            capacity[index] if index < len(sizes) else sum(capacity)
            for capacity in capacities
        ]
        missing = size - sum(
            share for place, share in enumerate(shares) if given >> place & 1
        )
        needed = 0
        for share in sorted(
            (
                share
                for place, share in enumerate(shares)
                if not given >> place & 1
            ),
            reverse=True,
        ):
            if missing <= 0:
                break
            missing -= share
            needed += 1
        fewest = max(fewest, needed)
    # That of all, and each with as few others or less.
    return 1 + sum(math.comb(others, number) for number in range(fewest + 1))


def search_unions(
    number: int, fits: Callable[[int], bool], given: int
) -> Sequence[int]:
    """List the least sets of places that fit.

    :param number: of places.
    :param fits: whether a set (a mask) can serve the request; a set that
        contains one that can must be able to as well. It raises
        :exc:`TooManyError` when it has been asked too often.
    :param given: mask of places that are used in any case.
    :returns: masks, few places first; none where there are more than
        :data:`MOST_UNIONS`, or where too many had to be tried.
    """

    def extend(union: int, start: int) -> Iterator[int]:
        # No set within a least one fits, so the way to it is never cut.
        if fits(union):
            yield union
            return
        for place in range(start, number):
            if not union >> place & 1:
                yield from extend(union | 1 << place, place + 1)

    def is_least(union: int) -> bool:
        return not any(
            fits(union ^ 1 << place)
            for place in range(number)
            if (union & ~given) >> place & 1
        )

    try:
        if not fits((1 << number) - 1):
            return ()
        found = []
        for union in extend(given, 0):
            if is_least(union):
                found.append(union)
                if len(found) > MOST_UNIONS:
                    return ()
    except TooManyError:
        return ()
    return tuple(sorted(found, key=int.bit_count))


class TooManyError(Exception):
    """More sets of places would have to be tried than is reasonable."""


class Places:
    """The places of the devices of one tree."""

    def __init__(
        self, providers: Sequence[str], summaries: trees.Summaries
    ) -> None:
        """Number the places of some providers."""
        numbers = number_places(
            [summaries[provider]["traits"] for provider in providers]
        )
        self._place_by_provider = dict(zip(providers, numbers, strict=True))
        self.number = max(numbers, default=-1) + 1
        self.are_known = self.number < len(numbers)
        """Whether the traits tell of devices that have one place."""

    def get_place(self, provider: str) -> int:
        """Return the place of a provider."""
        return self._place_by_provider[provider]

    def make_mask(self, providers: Iterable[str]) -> int:
        """Return the places of some providers."""
        mask = 0
        for provider in providers:
            mask |= 1 << self._place_by_provider[provider]
        return mask
