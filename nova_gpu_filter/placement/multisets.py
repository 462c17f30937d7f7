# SPDX-License-Identifier: Apache-2.0

"""Sets of devices in which one can serve several groups of a request."""

from collections.abc import Iterator
from collections.abc import Sequence
import random
from typing import TypeAlias

IndexSet: TypeAlias = tuple[int, ...]
"""Indexes of devices, ascending; one that serves several groups repeats."""


def generate_packed(
    shares: Sequence[int], size: int, seed: int
) -> Iterator[IndexSet]:
    """Yield disjoint sets that have as few devices as possible.

    Devices that have just enough left come first, so that others stay whole.
    """
    devices = [index for index, share in enumerate(shares) if share > 0]
    random.Random(seed).shuffle(devices)  # noqa: S311 (no secret)
    devices.sort(key=shares.__getitem__)
    fewest, missing = 0, size
    while missing > 0 and fewest < len(devices):
        fewest += 1
        missing -= shares[devices[-fewest]]
    start = 0
    while start + fewest <= len(devices):
        window = devices[start : start + fewest]
        if sum(shares[index] for index in window) < size:
            start += 1
            continue
        found: list[int] = []
        # The last has the most left: the others are filled.
        for index in window:
            found += [index] * min(shares[index], size - len(found))
        yield tuple(sorted(found))
        start += fewest


def generate_all(shares: Sequence[int], size: int) -> Iterator[IndexSet]:
    """Yield every multiset of devices within their shares, in order.

    :param size: how many devices are in a set.
    """
    # What the devices from an index on can serve together.
    left = [0]
    for share in reversed(shares):
        left.append(left[-1] + min(share, size))
    left.reverse()

    def extend(start: int, missing: int) -> Iterator[IndexSet]:
        if not missing:
            yield ()
            return
        for index in range(start, len(shares)):
            if left[index] < missing:
                return
            for times in range(min(shares[index], missing), 0, -1):
                for found in extend(index + 1, missing - times):
                    yield (index,) * times + found

    return extend(0, size)
