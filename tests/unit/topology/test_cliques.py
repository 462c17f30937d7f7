# SPDX-License-Identifier: Apache-2.0

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nova_gpu_filter.topology import cliques
from tests.unit.topology import reference


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 9))
    near = [0] * n
    for a, b in itertools.combinations(range(n), 2):
        if draw(st.booleans()):
            near[a] |= 1 << b
            near[b] |= 1 << a
    return near


def all_near(near, mask):
    devices = [i for i in range(len(near)) if mask >> i & 1]
    return all(near[a] >> b & 1 for a, b in itertools.combinations(devices, 2))


@given(graphs(), st.integers(0, 511))
def test_cliques_are_those_of_brute_force(near, within):
    within &= (1 << len(near)) - 1
    sizes = {0}
    for k in range(1, len(near) + 1):
        expected = [
            mask
            for mask in reference.sets_of(within, k)
            if all_near(near, mask)
        ]
        assert sorted(
            cliques.generate_sets(near, within, k, cliques.Steps(1 << 20))
        ) == sorted(expected)
        for steps in (3, 10, 1 << 20):
            left, left_of_one = cliques.Steps(steps), cliques.Steps(steps)
            first = next(cliques.generate_sets(near, within, k, left), 0)
            assert cliques.find_set(near, within, k, left_of_one) == first
            # Both are over, or have the same left.
            assert max(left.left, -1) == max(left_of_one.left, -1)
        assert all(cliques.is_clique(near, mask) for mask in expected)
        if expected:
            sizes.add(k)
    largest = cliques.find_largest_clique(near, within, cliques.Steps(1 << 20))
    assert largest & ~within == 0
    assert all_near(near, largest)
    assert largest.bit_count() == max(sizes)


@given(graphs(), st.integers(0, 511))
def test_sets_that_are_not_all_near_are_no_cliques(near, mask):
    mask &= (1 << len(near)) - 1
    assert cliques.is_clique(near, mask) == all_near(near, mask)


@given(graphs(), st.integers(0, 511))
def test_components_are_connected_and_apart(near, within):
    within &= (1 << len(near)) - 1
    found = cliques.list_components(near, within)
    assert sum(found) == within
    for component in found:
        members = [i for i in range(len(near)) if component >> i & 1]
        assert not any(near[i] & within & ~component for i in members)
        for size in range(1, len(members)):
            for part in reference.sets_of(component, size):
                assert any(
                    near[i] & component & ~part
                    for i in members
                    if part >> i & 1
                )
