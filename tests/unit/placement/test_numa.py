# SPDX-License-Identifier: Apache-2.0

import itertools
import math
import random

import pytest

from nova_gpu_filter.placement import numa

NODE = "CUSTOM_GPU_LINK_NODE_{}"
PIX = "CUSTOM_GPU_LINK_PIX_{}"
NVLINK = "CUSTOM_GPU_LINK_NV18_0"


@pytest.mark.parametrize(
    ("traits", "places"),
    [
        ([], []),
        ([[], [], []], [0, 1, 2]),
        ([[NVLINK]] * 3, [0, 1, 2]),
        ([[NODE.format(0)], [NODE.format(1)], [NODE.format(0)]], [0, 1, 0]),
        # One PCIe switch is on one node, whether a node is named or not.
        (
            [
                [PIX.format(4)],
                [NODE.format(1)],
                [PIX.format(4), NODE.format(0)],
                [NODE.format(0)],
            ],
            [0, 1, 0, 0],
        ),
        ([["HW_CPU_X86_AVX", "CUSTOM_FAST"], [NVLINK]], [0, 1]),
    ],
)
def test_devices_with_a_local_link_have_one_place(traits, places):
    assert list(numa.number_places(traits)) == places


def brute_force(capacities, sizes, given):
    """List the least unions, by trying all of them."""
    number = len(capacities)

    def fits(union):
        return all(
            sum(c[i] for p, c in enumerate(capacities) if union >> p & 1)
            >= size
            for i, size in enumerate(sizes)
        )

    good = [
        union
        for union in range(1 << number)
        if union & given == given and fits(union)
    ]
    return {
        union
        for union in good
        if not any(other != union and other & ~union == 0 for other in good)
    }


@pytest.mark.parametrize("seed", range(120))
def test_least_unions_are_those_that_brute_force_finds(seed):
    rng = random.Random(seed)
    classes = rng.choice((1, 1, 2, 3))
    # Often a place serves one class, so that classes can be split.
    most = rng.choice((0, 0, 4))
    capacities = tuple(
        tuple(
            rng.randint(0, 4 if index == served else most)
            for index in range(classes)
        )
        for served in rng.choices(range(classes), k=rng.randint(1, 6))
    )
    sizes = tuple(rng.randint(1, 4) for _ in range(classes))
    given = rng.choice((0, 0, 1))
    found, _ = numa.find_least_unions(capacities, sizes, given)
    assert len(found) == len(set(found))
    assert set(found) == brute_force(capacities, sizes, given)
    sizes_found = [union.bit_count() for union in found]
    assert sizes_found == sorted(sizes_found)


def test_of_8_devices_of_which_nothing_is_known_every_set_is_one():
    found, _ = numa.find_least_unions(((1,),) * 8, (4,))
    assert len(found) == math.comb(8, 4)
    assert set(found) == {
        sum(1 << place for place in places)
        for places in itertools.combinations(range(8), 4)
    }


@pytest.mark.parametrize("devices", [16, 64, 300])
def test_too_many_are_none(devices):
    assert numa.find_least_unions(((1,),) * devices, (8,))[0] == ()


@pytest.mark.parametrize("seed", range(200))
def test_a_search_tries_as_many_sets_as_are_counted(seed):
    rng = random.Random(seed)
    number, classes = rng.randint(1, 9), rng.randint(1, 3)
    capacities = tuple(
        tuple(rng.choice((0, 0, 1, 2)) for _ in range(classes))
        for _ in range(number)
    )
    sizes = tuple(rng.randint(1, 4) for _ in range(classes))
    given = rng.getrandbits(number) & rng.getrandbits(number)
    asked = 0

    def fits(union):
        nonlocal asked
        asked += 1
        # Classes that compete need more places than each of them alone.
        return (
            numa.can_serve(capacities, sizes, union)
            and sum(
                sum(capacities[place])
                for place in range(number)
                if union >> place & 1
            )
            >= sum(sizes) + rest
        )

    rest = rng.choice((0, 0, 1))
    numa.search_unions(number, fits, given)
    counted = numa.count_tried(capacities, sizes, given)
    assert asked == 1 or asked >= counted
