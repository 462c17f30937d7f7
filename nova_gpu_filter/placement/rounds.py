# SPDX-License-Identifier: Apache-2.0

"""Take from several iterators in turn, and each item once."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")


def take_in_turn(streams: Sequence[Iterator[_Item]]) -> Iterator[_Item]:
    """Yield the first item of each stream, then the second of each."""
    left = list(streams)
    while left:
        still_left = []
        for stream in left:
            for item in stream:
                yield item
                still_left.append(stream)
                break
        left = still_left


def drop_repeated(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield each item once."""
    seen: set[_Item] = set()
    for item in items:
        if item not in seen:
            seen.add(item)
            yield item
