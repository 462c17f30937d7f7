# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.topology import twins
from tests import machines
from tests.unit.topology import reference


@pytest.mark.parametrize(
    ("machine", "classes"),
    [
        (machines.dgx2_v100, [0x00FF, 0xFF00]),
        (machines.hgx_h100_partitions, [0b11, 0b1100, 0b110000, 0b11000000]),
        (machines.bridge_pairs_out_of_order, [0x05, 0x0A, 0x90, 0x60]),
        (machines.uneven_numa, [0b111111, 0b11000000]),
        (machines.dgx1_v100, [1 << i for i in range(8)]),
    ],
)
def test_devices_that_can_be_swapped_are_one_class(machine, classes):
    assert sorted(twins.classes(machine())) == sorted(classes)


@pytest.mark.parametrize("free", [0xFF, 0b10110111, 0b1])
@pytest.mark.parametrize("machine", machines.MACHINES_OF_8)
def test_representatives_stand_for_each_set_once(machine, free):
    topology = machine()
    free &= topology.everything
    among = twins.FreeTwins(topology, free)
    for k in range(1, 9):
        sets = list(reference.sets_of(free, k))
        representatives = {among.representative(mask) for mask in sets}
        assert among.count_representatives(k) == len(representatives)
        expanded = [m for r in representatives for m in among.sets(r)]
        assert sorted(expanded) == sorted(sets)
