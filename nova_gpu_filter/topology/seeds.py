# SPDX-License-Identifier: Apache-2.0

"""Permutations by a seed, to spread equal requests over equal devices."""

from collections.abc import Sequence
import functools
from typing import Final
from typing import NamedTuple

from nova_gpu_filter.topology import enumeration

_64_BITS: Final = (1 << 64) - 1

# Greater than the length of any list, hence coprime to it.
_PRIMES: Final = [
    number
    for number in range(enumeration.MAX_SETS + 1, enumeration.MAX_SETS + 700)
    if all(number % divisor for divisor in range(2, 117))
]


class Spread(NamedTuple):
    """The permutation that puts element i of n at (i * step + offset) % n.

    Much cheaper than a shuffle, and each element is first equally often.
    """

    step: int
    offset: int

    def pick(self, elements: Sequence[int], limit: int) -> list[int]:
        """List the elements at the first ``limit`` places."""
        n = len(elements)
        inverse = pow(self.step, -1, n)
        first = -self.offset * inverse
        return [
            elements[(first + place * inverse) % n]
            for place in range(limit if limit < n else n)
        ]


@functools.lru_cache(maxsize=1024)
def spread(seed: int) -> Spread:
    """Make the permutation of a seed, for example the int of a UUID.

    Seeds that differ little give unrelated permutations: the mixer is that of
    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    mixed = (seed ^ seed >> 64) + 0x9E3779B97F4A7C15 & _64_BITS
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _64_BITS
    mixed ^= mixed >> 31
    # An offset of 30 bits is one digit of an int, which makes it fast.
    return Spread(_PRIMES[mixed % len(_PRIMES)], mixed >> 34)
