# SPDX-License-Identifier: Apache-2.0

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import links

crosses = (
    st.integers(1, 4)
    .flatmap(
        lambda nics: st.lists(
            st.tuples(
                *[
                    st.sampled_from(
                        [
                            links.SYS,
                            links.NODE,
                            links.PHB,
                            links.PXB,
                            links.PIX,
                        ]
                    )
                ]
                * nics
            ),
            min_size=1,
            max_size=4,
        )
    )
    .map(tuple)
)


def pairs_of(cross, gpus, nics):
    """Pair GPUs with just these NICs."""
    capacities = [nics >> nic & 1 for nic in range(len(cross[0]))]
    return (
        companions.Companions(cross)
        .pair(gpus, capacities, sum(capacities))
        .pairs
    )


@given(crosses, st.integers(0, 15), st.integers(0, 15))
def test_number_of_pairs_is_that_of_brute_force(cross, gpus, nics):
    rows = [i for i in range(len(cross)) if gpus >> i & 1]
    columns = [i for i in range(len(cross[0])) if nics >> i & 1]
    gpus = sum(1 << i for i in rows)
    nics = sum(1 << i for i in columns)
    # Fewer NICs than GPUs: some GPUs go without.
    columns += [None] * len(rows)
    expected = tuple(
        max(
            sum(
                nic is not None and cross[gpu][nic] >= floor
                for gpu, nic in zip(rows, order, strict=True)
            )
            for order in itertools.permutations(columns, len(rows))
        )
        for floor in (links.PIX, links.PXB, links.PHB, links.NODE)
    )
    assert pairs_of(cross, gpus, nics) == expected


A, B = links.PIX, links.PXB


@pytest.mark.parametrize(
    ("sentence", "cross", "expected"),
    [
        ("each GPU has its NIC", ((A, B), (B, A)), (2, 2, 2, 2)),
        ("one NIC is not two", ((A, B), (A, B)), (1, 2, 2, 2)),
        ("a detour gives both a pair", ((A, A), (A, B)), (2, 2, 2, 2)),
    ],
)
def test_pairs_are_one_to_one(sentence, cross, expected):
    assert pairs_of(cross, 0b11, 0b11) == expected, sentence


def test_more_near_pairs_are_the_better_choice():
    near = pairs_of(((A, B), (B, A)), 0b11, 0b11)
    far = pairs_of(((B, B), (B, A)), 0b11, 0b11)
    assert near > far
