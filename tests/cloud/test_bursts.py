# SPDX-License-Identifier: Apache-2.0

"""Many servers asked for at once, on just enough GPUs."""

import collections
import os
import time

import pytest

from cloud import bootstrap
from tests.cloud import bursts
from tests.cloud import conftest
from tests.cloud import stock
from tests.cloud import views
from tests.cloud import waiting

ROUNDS = int(os.environ.get("CLOUD_ROUNDS", "3"))
"""How often each burst is repeated."""

COMPARED_ROUNDS = int(os.environ.get("CLOUD_COMPARED_ROUNDS", "2"))
"""How often for each of us and stock Nova, where they are compared."""

FALSE_FAULTS = ("No valid host", "Exhausted all hosts")
"""What Nova says of a server for which there was a GPU all the time: nobody
could be asked, or nobody was left to be asked after a host had refused."""


def burst(cloud, user, flavor, count, fillers, faults=FALSE_FAULTS):
    """Boot servers at once, delete them again; return how many failed.

    :param faults: one of them is in the fault of each that failed; with stock
        Placement, which gives one device to several, there are others.
    """
    uuids = user.boot_at_once([flavor] * count)
    assert None not in uuids
    servers = user.settle(uuids)
    counted = collections.Counter(server["status"] for server in servers)
    assert set(counted) <= {"ACTIVE", "ERROR"}, counted
    failed = [s["id"] for s in servers if s["status"] == "ERROR"]
    for uuid in failed:
        fault = user.fault(uuid)
        assert any(text in fault for text in faults), fault
    # The last allocations of what has failed go after the server has.
    assert waiting.until(lambda: views.look(cloud).disagreements() == [])
    assert user.delete(uuids) == []
    # A server is gone before its allocations are.
    expected = sum(gpus for _, gpus in fillers)
    assert waiting.until(
        lambda: bursts.held_everywhere(cloud) == [expected] * 4
    )
    return len(failed)


@pytest.mark.parametrize(
    ("count", "gpus", "fillers", "rounds"),
    [
        (10, 1, [("hgx-1", 4), ("hgx-2", 2)], ROUNDS),
        (6, 2, [("hgx-2", 4)], ROUNDS),
        # Two hosts from empty to full take half a minute.
        (16, 1, [], COMPARED_ROUNDS),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "fillers",
)
def test_a_burst_on_just_enough_gpus_has_no_false_no_valid_host(
    cloud, user, note, count, gpus, fillers, rounds
):
    bursts.fill(user, fillers)
    begin = time.monotonic()
    failed = [
        burst(cloud, user, bootstrap.flavor(gpus), count, fillers)
        for _ in range(rounds)
    ]
    seconds = (time.monotonic() - begin) / rounds
    note(
        f"{rounds} rounds: {sum(failed)} of {rounds * count} false 'No valid"
        f" host'; {seconds:.1f} s a round"
    )
    assert failed == [0] * rounds
    assert user.delete(user.servers()) == []
    conftest.assert_nothing_held(cloud)
    conftest.assert_audit_is_clean(cloud)


def test_bursts_with_two_schedulers_have_no_false_no_valid_host(
    cloud, user, note
):
    """No worker knows what the others claim; with stock many fail."""
    fillers = [("hgx-1", 4), ("hgx-2", 2)]
    bursts.fill(user, fillers)
    asked = COMPARED_ROUNDS * 10

    def failures(*faults):
        with bursts.second_scheduler(cloud, user):
            return sum(
                burst(cloud, user, bootstrap.flavor(1), 10, fillers, faults)
                for _ in range(COMPARED_ROUNDS)
            )

    ours = failures(*FALSE_FAULTS)
    with stock.placement_and_scheduler(cloud):
        theirs = failures("")
    note(
        f"false 'No valid host' of {asked}, 10 servers at once on 10 GPUs:"
        f" {ours}, stock Nova {theirs}"
    )
    assert ours == 0
