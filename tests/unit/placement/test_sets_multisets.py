# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from nova_gpu_filter.placement import sets
from nova_gpu_filter.topology import host_topologies


def uniform(n):
    """Devices without links."""
    return host_topologies.build_from_traits(
        [(str(index), (), None) for index in range(n)]
    )


@pytest.mark.parametrize(
    ("shares", "size"),
    [
        ((1, 1, 1), 2),
        ((2, 2), 3),
        ((3, 1, 2), 4),
        ((5,), 3),
        ((0, 2, 0, 1), 2),
        ((1, 1), 3),
        ((), 1),
    ],
)
def test_every_multiset_within_the_shares_is_found_once(shares, size):
    found = list(sets.generate_all(shares, size))
    assert len(found) == len(set(found))
    assert set(found) == {
        multiset
        for multiset in itertools.combinations_with_replacement(
            range(len(shares)), size
        )
        if all(multiset.count(i) <= share for i, share in enumerate(shares))
    }
    assert set(sets.choose(uniform(len(shares)), shares, size, None, 0)) == (
        set(found)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shares", "size", "packed"),
    [
        # Each device once, and none with one that is not needed.
        ((2, 2, 2), 2, {(0, 0), (1, 1), (2, 2)}),
        ((1, 2, 3), 2, {(1, 1), (2, 2)}),
        ((1, 1, 3), 4, {(0, 2, 2, 2), (1, 2, 2, 2)}),
        ((0, 1, 1), 2, {(1, 2)}),
        ((2, 0, 1), 3, {(0, 0, 2)}),
        ((1, 1), 3, set()),
        ((), 1, set()),
    ],
)
def test_packed_sets_have_few_devices(shares, size, packed, seed):
    found = list(sets.generate_packed(shares, size, seed))
    assert len({i for one in found for i in set(one)}) == sum(
        len(set(one)) for one in found
    )
    assert set(found) <= packed
    assert bool(found) == bool(packed)
    if all(len(set(one)) == 1 for one in packed):
        assert set(found) == packed


def test_of_devices_that_suffice_the_fullest_is_first():
    for seed in range(5):
        (first, *_) = sets.generate_packed((4, 2, 3), 2, seed)
        assert first == (1, 1)


@pytest.mark.parametrize("size", [2, 3])
def test_few_sets_hold_spread_and_packed_ones(size):
    """Of an 8-GPU host there are more sets of different GPUs than wanted."""
    chosen = sets.choose(uniform(8), (4,) * 8, size, 16, 7)
    assert len(set(chosen)) == 16
    assert {one for one in chosen if len(set(one)) == 1} == {
        (device,) * size for device in range(8)
    }
    assert sum(len(set(one)) == size for one in chosen) == 8
    # Also where many hosts share the limit of the query.
    assert {len(set(one)) for one in chosen[:2]} == {1, size}
