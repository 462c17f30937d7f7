# SPDX-License-Identifier: Apache-2.0

"""The hosts of a short answer of Placement beside those that weighers want."""

import random

from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler import weights
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import compose
from nova_gpu_filter.placement import remaining_capacity
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import trees
from nova_gpu_filter.scheduler import weights as gpu_weights
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import policy
from nova_gpu_filter.topology.topology import list_devices
from tests import machines
from tests import pools
from tests.unit.placement import builders

HOSTS = 20
SEEDS = 8
FEW = len(sets.REQUIREMENTS) + 1
"""Hosts in a short answer: the first of each order."""


def unlinked():
    return machines.nested(8, numa=(None,) * 8)


ALIKE = (
    machines.hgx_h100_partitions,
    machines.hgx_h200_partitions,
    machines.hgx_h100,
    machines.redstone_a100,
    unlinked,
)
"""Machines of which the free devices tell what all of them could offer: on
others Placement, which sees them all, knows F better than the weighers."""


@pytest.fixture
def config():
    conf.register_opts(cfg.CONF)
    with config_fixture.Config(cfg.CONF) as fixture:
        yield fixture


def ask_placement(hosts, k, limit, seed):
    """Return the device set that an answer has of each host."""
    summaries = {}
    for name, (machine, free) in hosts.items():
        links = groups.decompose(machine)
        tree = builders.host(
            name,
            machine.n,
            traits={
                f"g{i}": codec.format_traits(links[i])
                for i in range(machine.n)
            },
        )
        for i in range(machine.n):
            tree[f"{name}-g{i}"]["resources"][builders.GPU]["used"] = 1 - (
                free >> i & 1
            )
        summaries |= tree
    question = builders.question(k, limit=limit)
    found = trees.read(question, builders.inner_answer(summaries), None, ())
    room = remaining_capacity.find(
        question, found, summaries, lambda *_: set(summaries)
    )
    candidates = compose.compose(
        candidates_request.Request(question, summaries, room, 1, seed), found
    )
    return {
        next(iter(c.base.allocations)): c.sets[0] for c in candidates[::-1]
    }


def host_state(name, machine, free, device_set):
    state = host_manager.HostState(name, name, uuids.cell)
    state.aggregates = []
    state.pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
    state.pci_stats.pools = pools.of(machine, list_devices(free))
    for pool in state.pci_stats.pools:
        pool["rp_uuid"] = f"{name}-{pool['rp_uuid'].replace('gpu', 'g')}"
    mapping = {"": [name]} | {
        f"{uuids.req}-{number}": [device]
        for number, device in enumerate(device_set)
    }
    state.allocation_candidates = [{"mappings": mapping}]
    return state


def asking(k, link):
    extra_specs = {policy.LINK_KEY: link} if link else {}
    return objects.RequestSpec(
        instance_uuid=uuids.instance,
        num_instances=1,
        flavor=objects.Flavor(name="gpu", extra_specs=extra_specs),
        pci_requests=objects.InstancePCIRequests(
            requests=[
                objects.InstancePCIRequest(
                    count=k,
                    request_id=uuids.req,
                    alias_name="h100",
                    spec=[dict(pools.H100)],
                    numa_policy="legacy",
                )
            ]
        ),
    )


def choose(hosts, answer, k, link):
    """Return the names of the hosts that the weighers like most."""
    spec_obj = asking(k, link)
    passed = gpu_pci_passthrough.GpuPciPassthroughFilter().filter_all(
        [
            host_state(name, *hosts[name], found)
            for name, found in answer.items()
        ],
        spec_obj,
    )
    weighed = weights.HostWeightHandler().get_weighed_objects(
        [cls() for cls in gpu_weights.all_weighers()], passed, spec_obj
    )
    return {
        host.obj.host for host in weighed if host.weight == weighed[0].weight
    }


def some_hosts(kinds, k, seed):
    chance = random.Random(seed)
    hosts = {}
    while len(hosts) < HOSTS:
        machine = chance.choice(kinds)()
        free = chance.getrandbits(machine.n)
        if free.bit_count() >= k:
            hosts[f"host{len(hosts)}"] = machine, free
    return hosts


@pytest.mark.parametrize("link", [None, *policy.LINK_VALUES])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_a_short_answer_has_the_host_that_the_weighers_want(config, k, link):
    for seed in range(SEEDS):
        hosts = some_hosts(ALIKE, k, seed)
        wanted = choose(hosts, ask_placement(hosts, k, None, seed), k, link)
        few = ask_placement(hosts, k, FEW, seed)
        assert len(few) == FEW
        assert choose(hosts, few, k, link) <= wanted
        assert bool(wanted) == bool(wanted & few.keys())


def test_equal_questions_have_equal_answers_in_any_order_of_hosts():
    hosts = some_hosts(machines.MACHINES_OF_8, 2, seed=1)
    turned = dict(list(hosts.items())[::-1])
    answers = [
        list(ask_placement(asked, 2, FEW, seed=5).items())
        for asked in (hosts, hosts, turned)
    ]
    assert answers[0] == answers[1] == answers[2]
