# SPDX-License-Identifier: Apache-2.0

"""What a host offers by now, when claims on it were lost."""

from nova import objects
from oslo_config import cfg
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.scheduler import free_devices
from nova_gpu_filter.scheduler import latest_candidates
from tests.unit.scheduler import moments

HALVES = [{0, 1, 2, 3}, {4, 5, 6, 7}]


@pytest.fixture
def cloud(monkeypatch):
    conf.register_opts(cfg.CONF)
    cloud = moments.Cloud("a")
    monkeypatch.setattr(free_devices, "list_free", cloud.list_free)
    return cloud


def names(numbers):
    return {f"a/gpu{number}" for number in numbers}


def ask(cloud, accept=lambda host, found: found, numa_topology=None):
    """Ask for four GPUs, of which two sets are listed.

    :returns: what chooses, and the host state.
    """
    [(spec_obj, candidates, [host])] = cloud.read(
        4, numa_topology=numa_topology
    )
    host.allocation_candidates = [
        candidate
        for half in HALVES
        for candidate in candidates["a"]
        if moments.devices_of(candidate) == names(half)
    ]
    requests = device_requests.read_spec_obj(spec_obj)
    latest = latest_candidates.LatestCandidates(spec_obj, requests, accept)
    return latest.choose_on(host), host


def choose(latest, host, index=1):
    return [
        moments.devices_of(candidate)
        for candidate in latest([host.allocation_candidates[index]])
    ]


def test_the_own_set_comes_first_then_a_listed_one_then_any(cloud):
    latest, host = ask(cloud)
    assert choose(latest, host) == [names(HALVES[1])]
    cloud.held["other"] = names({7})
    assert choose(latest, host) == [names(HALVES[0])]
    cloud.held["another"] = names({0})
    [devices] = choose(latest, host)
    assert len(devices) == 4
    assert devices <= names({1, 2, 3, 4, 5, 6})


def test_the_host_has_the_last_word_on_other_sets(cloud):
    asked = []

    def accept(_host, candidates):
        asked.extend(map(moments.devices_of, candidates))
        return [candidates[-1]]

    latest, host = ask(cloud, accept)
    cloud.held["other"] = names({0, 7})
    chosen = choose(latest, host)
    assert chosen == asked[-1:]
    assert len(asked) == 15  # four of six


def test_a_host_without_a_set_is_not_asked_again(cloud):
    latest, host = ask(cloud)
    cloud.held["other"] = names({0, 1, 2, 6, 7})
    assert choose(latest, host) == []
    assert choose(latest, host) == []
    assert cloud.questions == 1


def test_what_filters_have_judged_is_all_that_is_tried(cloud):
    cells = objects.InstanceNUMATopology(
        cells=[objects.InstanceNUMACell(id=0, cpuset={0}, pcpuset=set())]
    )
    latest, host = ask(cloud, numa_topology=cells)
    cloud.held["other"] = names({0})
    assert choose(latest, host, 0) == [names(HALVES[1])]
    cloud.held["another"] = names({7})
    assert choose(latest, host) == []

    cloud.held.clear()
    latest, host = ask(cloud)
    # So does a filter that comes after ours.
    host.allocation_candidates = host.allocation_candidates[:1]
    cloud.held["other"] = names({0})
    assert choose(latest, host, 0) == []


@pytest.mark.parametrize("fault", ["silence", "crash"])
def test_in_doubt_what_was_listed_is_claimed(cloud, monkeypatch, fault):
    asked = []

    def list_free(*args):
        asked.append(args)
        if fault == "crash":
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr(free_devices, "list_free", list_free)
    latest, host = ask(cloud)
    for _ in range(3):
        assert choose(latest, host) == [names(HALVES[1])]
    # Who has waited for it once does not wait again.
    assert len(asked) == 1


def test_a_host_that_lacks_something_else_is_left(cloud):
    """Claims are lost though the devices are free."""
    latest, host = ask(cloud)
    claims = [choose(latest, host) for _ in range(6)]
    assert claims == [[names(HALVES[1])]] * 4 + [[], []]
    assert cloud.questions == 5


def test_a_host_is_asked_again_where_not_all_sets_were_looked_at(
    cloud, monkeypatch
):
    monkeypatch.setattr(latest_candidates, "_MOST_SUBSTITUTES", 2)
    latest, host = ask(cloud, lambda *_args: [])
    cloud.held["other"] = names({0, 7})
    assert choose(latest, host) == []
    cloud.held.clear()
    assert choose(latest, host) == [names(HALVES[1])]
    assert cloud.questions == 2


def test_as_much_is_asked_for_as_is_taken(monkeypatch):
    """Two VFs of one PF, which has one left."""
    cloud = moments.Cloud("a")
    [(spec_obj, _, [host])] = cloud.read(2)
    requests = device_requests.read_spec_obj(spec_obj)
    [first, second] = (
        group.requester_id for group in spec_obj.requested_resources
    )
    both, each = (
        {
            "allocations": {
                one: {"resources": {moments.CLASS: devices.count(one)}}
                for one in devices
            },
            "mappings": {first: [devices[0]], second: [devices[1]]},
        }
        for devices in (["pf0", "pf0"], ["pf0", "pf1"])
    )
    left = {
        (moments.CLASS, 1): frozenset({"pf0", "pf1"}),
        (moments.CLASS, 2): frozenset({"pf1"}),
    }
    monkeypatch.setattr(
        free_devices,
        "list_free",
        lambda _root, amounts: {amount: left[amount] for amount in amounts},
    )
    host.allocation_candidates = [both, each]
    latest = latest_candidates.LatestCandidates(
        spec_obj, requests, lambda *_args: []
    )
    assert latest.choose_on(host)([both]) == [each]
