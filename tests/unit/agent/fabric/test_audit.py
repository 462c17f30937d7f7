# SPDX-License-Identifier: Apache-2.0

"""What libvirt, Placement, the ledger and Fabric Manager say, compared."""

import pytest

from nova_gpu_filter.agent.fabric import audit
from nova_gpu_filter.agent.fabric.owning import Ownership
from nova_gpu_filter.agent.fabric.owning import Phase

A, B = "0000:86:00.0", "0000:87:00.0"
KNOWN = {3: frozenset({A, B}), 7: frozenset({A}), 9: frozenset({B})}
GUEST, OTHER = "guest", "other"


def owned(id_, owner=GUEST, phase=Phase.ACTIVE):
    return {id_: Ownership(id_, phase, owner, KNOWN[id_], (), "boot", 0.0)}


BOTH = {GUEST: frozenset({A, B})}
PLACED = {A: (GUEST,), B: (GUEST,)}


@pytest.mark.parametrize(
    ("rows", "active", "running", "consumers", "found"),
    [
        pytest.param({}, (), {}, {}, [], id="nothing"),
        pytest.param(owned(3), (3,), BOTH, PLACED, [], id="all agree"),
        pytest.param(owned(3), (3,), BOTH, None, [], id="no Placement"),
        pytest.param(
            owned(3),
            (3,),
            BOTH,
            {A: ("migration",), B: ("migration",)},
            [],
            id="the source of a migration",
        ),
        pytest.param(
            {}, (7,), {}, {}, [("leaked", 7, None)], id="nobody's partition"
        ),
        pytest.param(
            owned(7),
            (7,),
            {},
            {},
            [("leaked", 7, GUEST)],
            id="its guest has gone",
        ),
        pytest.param(
            owned(3),
            (),
            BOTH,
            PLACED,
            [("missing", 3, GUEST)],
            id="a guest without NVLink",
        ),
        pytest.param(
            owned(3, phase=Phase.LEAVING),
            (3,),
            BOTH,
            PLACED,
            [("missing", 3, GUEST)],
            id="about to be taken away",
        ),
        pytest.param(
            owned(3),
            (3,),
            {GUEST: frozenset({A}), OTHER: frozenset({B})},
            {A: (GUEST,), B: (OTHER,)},
            [
                ("crossing", 3, OTHER),
                ("missing", 7, GUEST),
                ("missing", 9, OTHER),
            ],
            id="two servers in one partition",
        ),
        pytest.param(
            owned(3),
            (3,),
            {**BOTH, OTHER: frozenset()},
            {A: (GUEST,), B: (OTHER,)},
            [("crossing", 3, OTHER)],
            id="two servers by Placement",
        ),
        pytest.param(
            owned(3),
            (3,),
            BOTH,
            {},
            [("unallocated", 3, GUEST)],
            id="not in Placement",
        ),
    ],
)
def test_each_problem_is_named(rows, active, running, consumers, found):
    truths = audit.Truths(KNOWN, rows, active, running, consumers)
    assert [
        (one.problem.value, one.partition, one.server)
        for one in audit.compare(truths)
    ] == found


def test_gpus_that_are_no_partition_are_missing():
    truths = audit.Truths({3: KNOWN[3]}, {}, (), {GUEST: frozenset({A})}, None)
    [one] = audit.compare(truths)
    assert (one.problem.value, one.partition) == ("missing", None)
