# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import make_mask
from tests import machines
from tests.unit.topology import reference


@pytest.mark.parametrize(
    "machine",
    machines.MACHINES_OF_8 + machines.MACHINES_OF_16,
    ids=lambda machine: machine.__name__,
)
def test_advice_is_that_of_brute_force(machine):
    topology = machine()
    rng = random.Random(6)
    for _ in range(24):
        free = make_mask(rng.sample(range(topology.n), min(topology.n, 7)))
        free &= rng.getrandbits(16)
        for requirement in Requirement:
            policy = LinkPolicy(requirement)
            sizes = [
                k
                for k in range(1, free.bit_count() + 1)
                if any(
                    reference.satisfies(
                        topology, mask, LinkPolicy(requirement)
                    )
                    for mask in reference.sets_of(free, k)
                )
            ]
            found = satisfaction.find_largest_set(topology, free, requirement)
            assert found.bit_count() == max(sizes, default=0)
            assert found & ~free == 0
            assert not found or reference.satisfies(topology, found, policy)
            for k in range(1, 5):
                fitting = satisfaction.list_met_requirements(topology, free, k)
                assert (requirement in fitting) == (k in sizes)


def test_refusal_on_bridge_pairs_can_name_what_would_fit():
    topology = machines.bridge_pairs_h100_nvl()
    free = 0b1011
    assert (
        satisfaction.find_largest_set(topology, free, Requirement.NVLINK)
        == 0b0011
    )
    assert satisfaction.list_met_requirements(topology, free, 3) == [
        Requirement.NODE
    ]
    assert satisfaction.list_met_requirements(topology, free, 4) == []


def test_requirements_that_fit_come_strictest_first():
    topology = machines.hgx_h100_partitions()
    assert satisfaction.list_met_requirements(topology, 255, 2) == list(
        Requirement
    )
    assert (
        satisfaction.list_met_requirements(topology, 255, 3)
        == list(Requirement)[1:]
    )
