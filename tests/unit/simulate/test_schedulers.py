# SPDX-License-Identifier: Apache-2.0

"""Both schedulers on the same cloud."""

import pathlib

import pytest

from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import placement_model
from nova_gpu_filter.simulate import scenario
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from nova_gpu_filter.topology.topology import list_devices

SHIPPED = (
    pathlib.Path(__file__).parents[3] / "etc" / "nova-gpu-filter" / "simulate"
)
FABRIC = LinkPolicy(Requirement.FABRIC)
BOTH = [schedulers.GpuScheduler, schedulers.StockScheduler]
MIX = workload.Mix(
    (
        (workload.Flavor(1), 0.4),
        (workload.Flavor(2, link=FABRIC), 0.2),
        (workload.Flavor(4, link=FABRIC), 0.2),
        (workload.Flavor(8, link=FABRIC), 0.2),
    ),
    arrivals=400,
)


def _cloud(*rows):
    return clouds.Cloud(hosts_file.read(rows, "test"))


def _hgx(count, **keys):
    return _cloud({"machine": "hgx-h100-fabric", "count": count} | keys)


@pytest.mark.parametrize("scheduler", BOTH)
@pytest.mark.parametrize("weighers", schedulers.WEIGHERS)
def test_free_gpus_of_one_host_are_chosen(scheduler, weighers):
    cloud = _hgx(3, used=[0, 1])
    chosen = scheduler(weighers).choose(workload.Flavor(4), cloud)
    assert chosen.mask.bit_count() == 4
    assert not chosen.mask & ~chosen.host.free


def test_ours_takes_whole_partitions_where_nova_takes_any_set():
    arrivals = MIX.draw(160, 1.0, seed=1)
    outcomes = {
        made.name: engine.replay(arrivals, _hgx(20), made)
        for made in (schedulers.GpuScheduler(), schedulers.StockScheduler())
    }
    assert outcomes["gpu"].satisfied == 1.0
    assert outcomes["stock"].satisfied < 0.6
    assert outcomes["gpu"].tally_by_size[4].accepted > 50


@pytest.mark.parametrize("scheduler", BOTH)
def test_asking_one_host_of_each_kind_is_asking_them_all(
    scheduler, monkeypatch
):
    arrivals = MIX.draw(160, 1.1, seed=3)[:150]

    def places(cloud):
        made = scheduler(seed=5)
        found = []
        original = cloud.take

        def take(host, mask):
            found.append((host.number, mask))
            original(host, mask)

        monkeypatch.setattr(cloud, "take", take)
        engine.replay(arrivals, cloud, made)
        return found

    few = places(_hgx(20))
    everyone = _hgx(20)
    monkeypatch.setattr(
        everyone,
        "list_distinct_hosts",
        lambda model, k: [
            (host, 1) for host in everyone.hosts if host.free.bit_count() >= k
        ],
    )
    assert few == places(everyone)
    assert len(few) > 100


def test_a_refusal_names_cause_example_and_hosts():
    # One GPU of each pair is free: 4 GPUs, but no partition of 2.
    cloud = _hgx(3, used=[0, 2, 4, 6])
    refused = schedulers.GpuScheduler().choose(
        workload.Flavor(2, link=FABRIC), cloud
    )
    cause = "no free set with the links asked for"
    assert (refused.cause, refused.hosts) == (cause, ((cause, 3),))
    assert "gpu asks for 2 with gpu:link=fabric; 4 free" in refused.example


def test_nova_accepts_where_ours_refuses_for_links():
    cloud = _hgx(1, used=[0, 2, 4, 6])
    chosen = schedulers.StockScheduler().choose(
        workload.Flavor(2, link=FABRIC), cloud
    )
    assert set(list_devices(chosen.mask)) < {1, 3, 5, 7}


@pytest.mark.parametrize("scheduler", BOTH)
@pytest.mark.parametrize(
    ("gpus", "cause"),
    [(7, schedulers.NOT_ENOUGH), (6, schedulers.SCATTERED)],
)
def test_without_a_host_with_enough_gpus_placement_offers_none(
    scheduler, gpus, cause
):
    cloud = _hgx(2, used=[0, 1, 2, 3, 4])
    refused = scheduler().choose(workload.Flavor(gpus), cloud)
    assert refused == schedulers.Refused(cause)


def test_the_weigher_of_fragmentation_spares_the_empty_host():
    cloud = _cloud(
        {"name": "empty", "machine": "hgx-h100-fabric"},
        {"name": "half", "machine": "hgx-h100-fabric", "used": [0, 1, 2, 3]},
    )
    chosen = schedulers.GpuScheduler("all").choose(workload.Flavor(4), cloud)
    assert chosen.host.state.host == "half"


def test_a_model_keeps_servers_on_hosts_of_that_model():
    cloud = _cloud(
        {"name": "a", "machine": "hgx-a100", "model": "A100"},
        {"name": "h", "machine": "hgx-h100", "model": "H100"},
    )
    for scheduler in BOTH:
        for model in ("A100", "H100"):
            chosen = scheduler().choose(workload.Flavor(2, model), cloud)
            assert chosen.host.kind.model == model


@pytest.mark.parametrize("k", [1, 2, 4])
def test_composed_candidates_are_distinct_sets_with_a_whole_partition_first(
    k,
):
    host = _hgx(1, used=[0]).hosts[0]
    masks = placement_model.choose_composed(host, k, seed=1, most=10)
    assert len(set(masks)) == len(masks)
    assert all(mask.bit_count() == k for mask in masks)
    assert not any(mask & ~host.free for mask in masks)
    assert host.kind.satisfies(masks[0], FABRIC)


def test_nova_sees_another_first_set_on_each_of_equal_hosts():
    cloud = _hgx(8)
    masks = {
        mask
        for host in cloud.hosts
        for mask in placement_model.choose_stock(host, 4, seed=1)
    }
    assert len(masks) > 4


def test_servers_without_links_leave_linked_hosts_to_those_that_ask():
    """The scenario mixed-links.yaml, shorter: 82 % before."""
    path = str(SHIPPED / "mixed-links.yaml")
    made = scenario.make(
        scenario.read_file(path), path, changes={"arrivals": 500}
    )
    cloud = clouds.Cloud(made.hosts)
    outcome = engine.replay(
        made.runs[0].arrivals(cloud.capacity),
        cloud,
        schedulers.GpuScheduler(seed=1),
    )
    assert outcome.acceptance_by_gpus >= 0.96
