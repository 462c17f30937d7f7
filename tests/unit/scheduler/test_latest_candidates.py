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


def ask(cloud, accept=list, numa_topology=None):
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
    return latest_candidates.LatestCandidates(
        host, spec_obj, device_requests.read_spec_obj(spec_obj), accept
    ), host


def choose(latest, host, index=1):
    return [
        moments.devices_of(candidate)
        for candidate in latest.choose([host.allocation_candidates[index]])
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

    def accept(candidates):
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
    def list_free(*_args):
        if fault == "crash":
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr(free_devices, "list_free", list_free)
    latest, host = ask(cloud)
    assert choose(latest, host) == [names(HALVES[1])]
