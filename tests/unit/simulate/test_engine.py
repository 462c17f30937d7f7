# SPDX-License-Identifier: Apache-2.0

"""Servers come and go, and the account is right."""

import math

import pytest

from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload

TWO = workload.Flavor(2)
FOUR = workload.Flavor(4)
THREE = workload.Flavor(3)


@pytest.fixture
def cloud():
    """Two hosts with two pairs each."""
    return clouds.Cloud(
        hosts_file.read(
            [{"gpu_links": ["pix:0", "pix:0", "pix:1", "pix:1"], "count": 2}],
            "test",
        )
    )


class _First(schedulers.Scheduler):
    """Takes the lowest free GPUs of the first host."""

    name = "first"

    def choose(self, flavor, cloud):
        looks = cloud.list_distinct_hosts(flavor.model, flavor.gpus)
        if not looks:
            return schedulers.explain_no_candidates(flavor, cloud)
        host = looks[0][0]
        mask = 0
        while mask.bit_count() < flavor.gpus:
            mask |= host.free & ~mask & -(host.free & ~mask)
        return schedulers.Placed(host, mask)


def _arrivals(*servers):
    return [workload.Arrival(*server) for server in servers]


def test_a_server_that_leaves_makes_room_at_that_moment(cloud):
    outcome = engine.replay(
        _arrivals((0, 5, FOUR), (1, 9, FOUR), (4, 1, TWO), (5, 1, FOUR)),
        cloud,
        _First(),
    )
    assert outcome.tally_by_size == {
        2: engine.Tally(arrived=1),
        4: engine.Tally(arrived=3, accepted=3, satisfied=3),
    }
    assert outcome.acceptance == 0.75
    assert outcome.acceptance_by_gpus == 12 / 14
    assert cloud.used == 8


def test_means_are_over_time_not_over_servers(cloud):
    outcome = engine.replay(
        _arrivals((10, 1, FOUR), (19, 1, TWO), (20, 1, TWO)), cloud, _First()
    )
    # 4 GPUs for 1 of 10, none for 8, 2 for 1.
    assert outcome.gpus_used_mean == pytest.approx(0.6)
    assert [sample.gpus_used for sample in outcome.samples] == [4, 2, 2]
    assert [sample.gpus_requested for sample in outcome.samples] == [4, 6, 8]


def test_fragmentation_is_recorded_as_the_sum_of_all_hosts(cloud):
    empty = cloud.fragmentation
    one = workload.Flavor(1)
    outcome = engine.replay(
        _arrivals((0, math.inf, one), (1, math.inf, one)), cloud, _First()
    )
    assert outcome.samples[-1].fragmentation == pytest.approx(
        cloud.fragmentation
    )
    assert outcome.samples[0].fragmentation > empty


def test_servers_on_a_bad_set_are_accepted_but_not_satisfied(cloud):
    cloud.take(cloud.hosts[0], 0b0001)
    outcome = engine.replay(_arrivals((0, 1, TWO)), cloud, _First())
    assert outcome.tally_by_size[2] == engine.Tally(1, 1, 0)
    assert outcome.satisfied == 0.0


def test_refusals_are_counted_by_cause(cloud):
    outcome = engine.replay(
        _arrivals((0, 9, THREE), (0, 9, THREE), (1, 9, TWO), (1, 9, THREE)),
        cloud,
        _First(),
    )
    assert outcome.reasons == {
        schedulers.SCATTERED: engine.Reason(servers=1, gpus=2),
        schedulers.NOT_ENOUGH: engine.Reason(servers=1, gpus=3),
    }


def test_every_arrival_ticks_once(cloud):
    ticks = []
    engine.replay(
        _arrivals((0, 1, TWO), (1, 1, FOUR)),
        cloud,
        _First(),
        lambda: ticks.append(1),
    )
    assert len(ticks) == 2


def test_without_servers_with_several_gpus_no_share_is_satisfied(cloud):
    outcome = engine.replay(
        _arrivals((0, 1, workload.Flavor(1))), cloud, _First()
    )
    assert outcome.satisfied is None


@pytest.mark.parametrize(
    "scheduler", [schedulers.GpuScheduler, schedulers.StockScheduler, _First]
)
def test_what_fits_is_counted_for_each_size_alone(cloud, scheduler):
    cloud.take(cloud.hosts[0], 0b0001)
    before = [host.free for host in cloud.hosts]
    flavors = [workload.Flavor(k) for k in (1, 2, 3, 4, 5)]
    found = engine.fits(flavors, cloud, scheduler())
    assert list(found.values()) == [7, 3, 2, 1, 0]
    assert [host.free for host in cloud.hosts] == before
