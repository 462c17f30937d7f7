# SPDX-License-Identifier: Apache-2.0

"""Further views of hosts, in the hands of Nova's own scheduler manager."""

import collections
import itertools
import random
import statistics

from nova import objects
from nova.scheduler import host_manager
from nova.scheduler import weights
from nova.scheduler.filters import affinity_filter
from nova.scheduler.filters import numa_topology_filter
from nova.scheduler.weights import ram
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler import views
from nova_gpu_filter.scheduler import weights as gpu_weights
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from tests.unit.scheduler import moments

OURS = "nova_gpu_filter.scheduler.weights.all_weighers"


@pytest.fixture
def config():
    conf.register_opts(cfg.CONF)
    with config_fixture.Config(cfg.CONF) as fixture:
        fixture.config(
            group="filter_scheduler",
            weight_classes=["nova.scheduler.weights.all_weighers", OURS],
        )
        yield fixture


def scheduler(cloud, *more_filters):
    """Make a worker; Nova reads its options when it makes the filters."""
    return moments.Scheduler(
        cloud,
        [gpu_pci_passthrough.GpuPciPassthroughFilter(), *more_filters],
        [ram.RAMWeigher(), *(cls() for cls in gpu_weights.all_weighers())],
    )


def at_once(cloud, *counts, workers=8):
    """Schedule requests of one moment; return how many were refused."""
    schedulers = [scheduler(cloud) for _ in range(workers)]
    refused = 0
    for number, question in enumerate(cloud.read(*counts)):
        refused += not schedulers[number % workers].schedule(question)
    return refused


def chosen(selections):
    return selections[0].service_host


def alternates(selections):
    return [selection.service_host for selection in selections[1:]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("held", "counts"),
    [
        pytest.param((0,) * 5, [1] * 40, id="40 servers with 1 GPU"),
        pytest.param((4, 6, 4), [1] * 10, id="10 servers with 1 GPU"),
        pytest.param((4, 0), [2] * 6, id="6 servers with 2 GPUs"),
        pytest.param((0, 0), [4] * 4, id="4 servers with 4 GPUs"),
        pytest.param((0,) * 3, [8] * 3, id="3 servers with 8 GPUs"),
        pytest.param((7,), [1], id="1 server"),
    ],
)
def test_requests_of_one_moment_find_just_enough_gpus(
    config, seed, held, counts
):
    hosts = [f"host{number}" for number in range(len(held))]
    cloud = moments.Cloud(*hosts, seed=seed)
    for host, gpus in zip(hosts, held, strict=True):
        cloud.hold(host, gpus)
    assert at_once(cloud, *counts) == 0
    assert not any(cloud.free(host) for host in hosts)


def test_servers_of_one_moment_leave_empty_hosts_empty(config):
    """Spread over equal hosts they would lose fewer claims, and break all."""
    empty, claims = [], []
    for seed in range(4):
        cloud = moments.Cloud(*"abcde", seed=seed)
        assert at_once(cloud, *[1] * 8) == 0
        empty.append(sum(len(cloud.free(host)) == 8 for host in cloud.hosts))
        claims.append(cloud.claims / 8)
    assert statistics.mean(empty) >= 2
    assert statistics.mean(claims) <= 1.6


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moment", [8, 22])
@pytest.mark.parametrize(
    ("counts", "spare"),
    [
        pytest.param([1] * 12 + [2] * 6 + [4] * 2, 8, id="8 GPUs to spare"),
        pytest.param([1] * 12 + [2] * 6 + [4] * 4, 0, id="no GPU to spare"),
    ],
)
def test_sizes_are_mixed(config, counts, spare, moment, seed):
    """Who is refused is not refused falsely: no host has as many GPUs.

    Where all fit exactly, servers of one moment can fill hosts so that four
    free GPUs are left on two of them.
    """
    cloud = moments.Cloud(*"abcde", seed=seed)
    random.Random(seed).shuffle(counts)
    schedulers = [scheduler(cloud) for _ in range(8)]
    refused = 0
    for start in range(0, len(counts), moment):
        asked = counts[start : start + moment]
        for worker, count, question in zip(
            itertools.cycle(schedulers),
            asked,
            cloud.read(*asked),
            strict=False,
        ):
            if not worker.schedule(question):
                refused += 1
                most = max(len(cloud.free(host)) for host in cloud.hosts)
                assert most < count
    assert refused == 0 or not spare


def test_without_views_one_moment_is_too_much(config):
    config.config(group="gpu_filter", candidates_to_try=0)
    cloud = moments.Cloud("a")
    assert at_once(cloud, *[1] * 8) > 0


def test_the_others_are_not_tried_where_there_are_as_many_hosts(config):
    config.config(group="gpu_filter", candidates_to_try=3)
    cloud = moments.Cloud("a", "b")
    [question] = cloud.read(1)
    assert scheduler(cloud).schedule(question)
    spec_obj, _, states = question
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    assert gpu_filter.filter_all(states, spec_obj) == states


def test_one_instance_changes_all_views_of_its_host(config):
    cloud = moments.Cloud("a")
    [(spec_obj, candidates, states)] = cloud.read(2)
    states[0].allocation_candidates = candidates["a"]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    host, *others = gpu_filter.filter_all(states, spec_obj)
    assert len(others) == 27
    view = others[3]
    for group in spec_obj.requested_resources:
        group.provider_uuids = view.allocation_candidates[0]["mappings"][
            group.requester_id
        ]
    view.consume_from_request(spec_obj)
    view.limits["numa_topology"] = "of one"
    view.updated = None
    for state in (host, *others):
        assert isinstance(state, host_manager.HostState)
        assert state.free_ram_mb == 990
        assert state.num_instances == 1
        assert len(state.pci_stats.pools) == 6
        assert state.limits == {"numa_topology": "of one"}
        assert state.updated is None
        assert state == host
        assert hash(state) == hash(host)
        assert state in [others[0]]
    assert others[0] != host_manager.HostState("a", "a", uuids.cell)
    sets = {
        frozenset(moments.devices_of(state.allocation_candidates[0]))
        for state in (host, *others)
    }
    assert len(sets) == 28
    assert len(host.allocation_candidates) == 28


def test_the_first_further_sets_have_no_device_in_common(config):
    cloud = moments.Cloud("a")
    [(spec_obj, candidates, states)] = cloud.read(2)
    states[0].allocation_candidates = candidates["a"]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    first = gpu_filter.filter_all(states, spec_obj)[:4]
    devices = [
        moments.devices_of(state.allocation_candidates[0]) for state in first
    ]
    assert len(set().union(*devices)) == 8


def test_several_instances_of_one_request_get_gpus_of_their_own(config):
    cloud = moments.Cloud("a", "b")
    [question] = cloud.read(2)
    selections = scheduler(cloud).schedule(question, instances=8)
    assert collections.Counter(map(chosen, selections)) == {"a": 4, "b": 4}
    assert cloud.claims == 8
    assert all(alternates(one) == [] for one in selections)


@pytest.mark.parametrize("first", [True, False])
def test_several_instances_go_on_where_only_a_view_is_left(config, first):
    """Nova knows hosts by name where some are ignored: the last one counts."""
    cloud = moments.Cloud("a", "b")
    ignored = ["b"] if first else ["a"]
    [question] = cloud.read(2, ignore_hosts=ignored)
    selections = scheduler(cloud).schedule(question, instances=4)
    assert not {chosen(one) for one in selections} & set(ignored)
    assert cloud.claims == 4


def test_alternates_are_other_hosts(config):
    config.config(group="scheduler", max_attempts=4)
    cloud = moments.Cloud("a", "b", "c", "d")
    [question] = cloud.read(2)
    [selections] = scheduler(cloud).schedule(question)
    names = [chosen(selections), *alternates(selections)]
    assert sorted(names) == ["a", "b", "c", "d"]


def test_no_alternate_is_the_chosen_host(config):
    config.config(group="scheduler", max_attempts=20)
    cloud = moments.Cloud("a", "b")
    [question] = cloud.read(1)
    [selections] = scheduler(cloud).schedule(question)
    assert chosen(selections) not in alternates(selections)


def test_a_lost_claim_on_a_view_is_no_choice_of_its_host(config):
    cloud = moments.Cloud("a")
    first, second = cloud.read(4, 4)
    workers = [scheduler(cloud), scheduler(cloud)]
    assert workers[0].schedule(first)
    [selections] = workers[1].schedule(second)
    assert chosen(selections) == "a"
    assert alternates(selections) == []


def test_forced_hosts_are_stocks(config):
    cloud = moments.Cloud("a", "b")
    [question] = cloud.read(1, force_hosts=["b"])
    spec_obj, candidates, states = question
    for state in states:
        state.allocation_candidates = candidates[state.host]
    worker = scheduler(cloud)
    [forced] = worker.host_manager.get_filtered_hosts(states, spec_obj)
    assert forced is states[1]


@pytest.mark.parametrize(
    "options",
    [
        {"host_subset_size": 3},
        {"shuffle_best_same_weighed_hosts": True},
        {"host_subset_size": 2, "shuffle_best_same_weighed_hosts": True},
    ],
    ids=str,
)
def test_hosts_are_chosen_at_random_as_in_stock(config, options):
    """Among hosts, never among their views, and with the best set of each."""
    config.config(group="filter_scheduler", **options)

    def draw(candidates_to_try):
        config.config(group="gpu_filter", candidates_to_try=candidates_to_try)
        random.seed(7)
        cloud = moments.Cloud("a", "b", "c")
        drawn = []
        for _ in range(30):
            [question] = cloud.read(1)
            [selections] = scheduler(cloud).schedule(question)
            drawn.append(
                (chosen(selections), selections[0].allocation_request)
            )
            cloud.held.clear()
        return drawn

    ours = draw(64)
    assert ours == draw(0)
    assert len({host for host, _ in ours}) > 1


def test_more_random_hosts_than_there_are_leave_no_room_for_views(config):
    config.config(group="filter_scheduler", host_subset_size=3)
    cloud = moments.Cloud("a", "b")
    [(spec_obj, candidates, states)] = cloud.read(1)
    for state in states:
        state.allocation_candidates = candidates[state.host]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    assert gpu_filter.filter_all(states, spec_obj) == states
    assert not any(map(views.is_view, gpu_filter.filter_all(states, spec_obj)))


@pytest.mark.parametrize("instances", [3, 4])
def test_anti_affinity_holds_among_several_instances(config, instances):
    cloud = moments.Cloud("a", "b", "c")
    group = objects.InstanceGroup(policy="anti-affinity", hosts=[], rules={})
    [question] = cloud.read(1, instance_group=group)
    worker = scheduler(cloud, affinity_filter.ServerGroupAntiAffinityFilter())
    selections = worker.schedule(question, instances)
    if instances == 3:
        assert sorted(map(chosen, selections)) == ["a", "b", "c"]
    else:
        assert selections is None
        assert cloud.held == {}


def test_views_pass_through_later_filters_and_come_in_again(config):
    cloud = moments.Cloud("a", "b")
    [(spec_obj, candidates, states)] = cloud.read(2)
    for state in states:
        state.allocation_candidates = candidates[state.host]
    spec_obj.numa_topology = None
    worker = scheduler(cloud, numa_topology_filter.NUMATopologyFilter())
    passed = worker.host_manager.get_filtered_hosts(states, spec_obj)
    assert len({id(views.get_host_state(state)) for state in passed}) == 2
    again = worker.host_manager.get_filtered_hosts(passed, spec_obj, 1)
    assert [views.get_host_state(s) for s in again] == [
        views.get_host_state(s) for s in passed
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"weight_classes": ["nova.scheduler.weights.all_weighers"]},
        {"weight_classes": [OURS], "pool_matcher": "nova"},
    ],
    ids=["without their weigher", "with the matcher nova"],
)
def test_nothing_is_listed_twice(config, options):
    for name, value in options.items():
        group = "filter_scheduler" if "classes" in name else "gpu_filter"
        config.config(group=group, **{name: value})
    cloud = moments.Cloud("a")
    [(spec_obj, candidates, states)] = cloud.read(1)
    states[0].allocation_candidates = candidates["a"]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    [only] = gpu_filter.filter_all(states, spec_obj)
    assert only is states[0]


def test_a_server_that_moves_gets_no_other_set(config):
    cloud = moments.Cloud("a")
    [(spec_obj, candidates, states)] = cloud.read(
        1,
        requested_destination=objects.Destination(
            cell=objects.CellMapping(uuid=uuids.cell)
        ),
    )
    states[0].allocation_candidates = candidates["a"]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    assert len(gpu_filter.filter_all(states, spec_obj)) == 1


def test_views_are_of_the_class_of_their_host(config):
    class HostState(host_manager.HostState):
        """Of a host manager of somebody else."""

        def consume_from_request(self, spec_obj):
            self.consumed = spec_obj

    cloud = moments.Cloud("a")
    [(spec_obj, candidates, [state])] = cloud.read(1)
    state.__class__ = HostState
    state.allocation_candidates = candidates["a"]
    gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
    passed = gpu_filter.filter_all([state], spec_obj)
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [cls() for cls in gpu_weights.all_weighers()], passed, spec_obj
    )
    view = weighed[-1].obj
    assert views.is_view(view)
    view.consume_from_request(spec_obj)
    assert state.consumed is spec_obj
