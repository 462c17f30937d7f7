# SPDX-License-Identifier: Apache-2.0

"""A request alone in its moment goes as it does without further views.

Random clouds, options, filters in any order, all weighers of Nova and requests
of every kind, each scheduled by Nova's own manager with views and without.
"""

import random

from nova import objects
from nova.scheduler import weights
from nova.scheduler.filters import affinity_filter
from nova.scheduler.filters import numa_topology_filter
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from tests.unit.scheduler import moments

CASES = 120
CLASSES = [
    "nova.scheduler.weights.all_weighers",
    "nova_gpu_filter.scheduler.weights.all_weighers",
]
MULTIPLIERS = [
    f"{name}_weight_multiplier"
    for name in ("ram", "cpu", "disk", "io_ops", "pci", "num_instances")
]
KINDS = (
    ("none", {}),
    ("ignore_hosts", {}),
    ("force_hosts", {}),
    ("anti-affinity", {}),
    ("anti-affinity", {"max_server_per_host": 2}),
    ("affinity", {}),
    ("soft-anti-affinity", {}),
)


def configure(config, chance, hosts):
    """Set random options; return how many hosts Nova draws from."""
    drawn_from = chance.choice([1, 1, 2, 3])
    config.config(
        group="filter_scheduler",
        weight_classes=CLASSES,
        host_subset_size=min(drawn_from, hosts),
        shuffle_best_same_weighed_hosts=chance.random() < 0.3,
        **{name: chance.choice([0.0, 1.0, 50.0]) for name in MULTIPLIERS},
    )
    config.config(
        group="scheduler", max_attempts=chance.choice([1, 2, 3, 5, 20])
    )
    return drawn_from


def ask(chance, cloud):
    """Make a random request, and what it gets to see."""
    kind, rules = chance.choice(KINDS)
    fields = {}
    if kind.endswith("_hosts"):
        some = chance.randint(1, len(cloud.hosts))
        fields[kind] = chance.sample(cloud.hosts, some)
    elif kind != "none":
        fields["instance_group"] = objects.InstanceGroup(
            policy=kind, policies=[kind], hosts=[], members=[], rules=rules
        )
    [question] = cloud.read(chance.choice([1, 1, 2, 2, 3, 4, 8]), **fields)
    for state in question[2]:
        state.free_ram_mb = chance.choice([1000, 2000])
        state.vcpus_total = 64
        state.vcpus_used = chance.choice([0, 8])
        state.free_disk_mb = 1000
        state.num_instances = chance.choice([0, 1, 2])
        state.num_io_ops = chance.choice([0, 1])
        state.failed_builds = chance.choice([0, 0, 0, 3])
        state.hypervisor_version = chance.choice([1, 2])
        state.cpu_allocation_ratio = state.ram_allocation_ratio = 1.0
        state.disk_allocation_ratio = 1.0
        state.metrics = objects.MonitorMetricList(objects=[])
        if chance.random() < 0.2:
            state.cell_uuid = uuids.other_cell
    return question


def schedule(seed, candidates_to_try):
    """Schedule what a seed makes; return all that can be seen of it."""
    chance = random.Random(seed)
    conf.register_opts(cfg.CONF)
    with config_fixture.Config(cfg.CONF) as config:
        hosts = [f"host{number}" for number in range(chance.randint(1, 6))]
        drawn_from = configure(config, chance, len(hosts))
        config.config(group="gpu_filter", candidates_to_try=candidates_to_try)
        cloud = moments.Cloud(*hosts, seed=seed)
        for host in hosts:
            cloud.hold(host, chance.choice([0, 0, 1, 2, 3, 4, 5, 6, 7]))
        question = ask(chance, cloud)
        enabled = [
            gpu_pci_passthrough.GpuPciPassthroughFilter(),
            numa_topology_filter.NUMATopologyFilter(),
            affinity_filter.ServerGroupAntiAffinityFilter(),
            affinity_filter.ServerGroupAffinityFilter(),
        ]
        chance.shuffle(enabled)
        weighers = [
            weigher()
            for weigher in weights.HostWeightHandler().get_matching_classes(
                CLASSES
            )
            # Reads the mappings of cells from the database.
            if weigher.__name__ != "CrossCellWeigher"
        ]
        random.seed(seed)
        selections = moments.Scheduler(cloud, enabled, weighers).schedule(
            question, instances=chance.choice([1, 1, 1, 2, 3, 4])
        )
    found = [
        [(one.service_host, one.allocation_request) for one in instance]
        for instance in selections or ()
    ]
    after = [
        (
            state.host,
            state.free_ram_mb,
            state.num_instances,
            sorted(state.instances or ()),
            sorted(pool["rp_uuid"] for pool in state.pci_stats.pools),
        )
        for state in question[2]
    ]
    fails = {state.host for state in question[2] if state.failed_builds}
    return found, cloud.claims, cloud.held, after, fails, drawn_from


@pytest.mark.parametrize("seed", range(CASES))
def test_a_request_alone_goes_as_without_views(seed):
    found, *rest, fails, drawn_from = schedule(seed, 64)
    without, *rest_without, _fails, _drawn_from = schedule(seed, 0)
    assert rest == rest_without
    assert len(found) == len(without)
    for ours, stock in zip(found, without, strict=True):
        # The chosen host, and the devices that were claimed there.
        assert ours[0] == stock[0]
        assert ours[0][0] not in {host for host, _ in ours[1:]}
        # Further sets come behind all hosts, but before those that fail.
        assert len(ours) >= len(stock)
        good = [one for one in stock[1:] if one[0] not in fails]
        if drawn_from == 1:
            assert ours[1 : 1 + len(good)] == good
        else:
            assert ours[1 : len(stock)] == stock[1:]


def test_the_cases_have_views_and_refusals():
    """Or the comparison above compares nothing."""
    lengths = [
        [
            sum(len(instance) for instance in schedule(seed, most)[0])
            for most in (64, 0)
        ]
        for seed in range(40)
    ]
    assert any(ours > stock for ours, stock in lengths)
    assert any(stock == 0 for _, stock in lengths)
    assert sum(stock > 0 for _, stock in lengths) > 20
