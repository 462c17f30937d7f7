# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from nova_gpu_filter.placement import sets
from tests.unit.placement import builders


def uniform(n):
    return builders.topology(*([()] * n))


PAIRS = builders.topology(
    *([f"CUSTOM_GPU_LINK_NV4_{i // 2}", "CUSTOM_RED"] for i in range(8))
)


@pytest.mark.parametrize("limit", [1, 3, 16])
def test_linked_devices_are_chosen_together(limit):
    chosen = sets.choose(PAIRS, (1,) * 8, 2, limit, 7)
    assert len(chosen) == limit
    pairs = {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert set(chosen[:4]) <= pairs
    if limit >= 4:
        assert set(chosen[:4]) == pairs


def test_the_request_mix_tells_equally_linked_sets_apart():
    pair_and_two = builders.topology(*[["CUSTOM_GPU_LINK_NV4_0"]] * 2, [], [])

    def first(**mix):
        return {
            sets.choose(pair_and_two, (1,) * 4, 1, 1, seed, **mix)[0]
            for seed in range(30)
        }

    # By default a single device spares the pair; where nobody asks for two
    # there is nothing to spare.
    lone = first()
    assert len(lone) == 2
    assert first(mix=((1, 1.0),)) > lone


def test_devices_without_a_share_are_not_chosen():
    shares = (1, 0, 1, 1, 0, 0, 1, 1)
    chosen = sets.choose(PAIRS, shares, 3, None, 0)
    assert set(chosen) == set(itertools.combinations((0, 2, 3, 6, 7), 3))
    assert len(chosen) == 10


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("limit", [2, 16, None])
def test_equal_devices_are_packed_first(size, limit):
    chosen = sets.choose(uniform(7), (1,) * 7, size, limit, 3)
    assert len(set(chosen)) == len(chosen)
    packing = chosen[: 7 // size][:limit]
    devices = [device for found in packing for device in found]
    assert len(devices) == len(set(devices))
    if limit is None:
        assert set(chosen) == set(itertools.combinations(range(7), size))


def test_hundreds_of_equal_devices_are_no_work():
    chosen = sets.choose(uniform(300), (1,) * 300, 8, 16, 3)
    assert len(chosen) == 16
    devices = [device for found in chosen for device in found]
    assert len(set(devices)) == 16 * 8


def test_all_sets_of_many_linked_devices_are_there():
    # More than the topology engine looks at.
    many = builders.topology(
        *([f"CUSTOM_GPU_LINK_NV4_{i // 2}"] for i in range(20))
    )
    chosen = sets.choose(many, (1,) * 20, 6, None, 3)
    assert len(chosen) == len(set(chosen)) == 38760


def test_a_seed_permutes_equal_sets_only():
    firsts = {
        sets.choose(PAIRS, (1,) * 8, 2, 1, seed)[0] for seed in range(30)
    }
    assert firsts == {(0, 1), (2, 3), (4, 5), (6, 7)}


def test_equal_questions_have_equal_answers():
    for n in (8, 300):
        asked = [
            sets.choose(uniform(n), (1,) * n, 3, 300, 5) for _ in range(2)
        ]
        assert asked[0] == asked[1]
