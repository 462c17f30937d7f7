# SPDX-License-Identifier: Apache-2.0

"""Host states of a simulated cloud, beside what Nova makes of claims."""

import copy
import random

import pytest

from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import placement_model
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology.topology import list_devices

INVENTORY = [
    {"machine": "hgx-h100-fabric", "model": "H100", "count": 3},
    {"machine": "pcie-2", "model": "T4", "count": 2},
]


@pytest.fixture
def cloud():
    return clouds.Cloud(hosts_file.read(INVENTORY, "test"))


def _providers(pools):
    return [pool["rp_uuid"] for pool in pools]


def test_a_host_state_shows_one_pool_a_gpu_with_links_and_provider(cloud):
    host = cloud.hosts[0]
    pools = host.state.pci_stats.pools
    assert _providers(pools) == list(host.providers)
    assert {pool["count"] for pool in pools} == {1}
    assert tuple(pool["gpu_links"] for pool in pools) == host.kind.links
    assert [pool["numa_node"] for pool in pools] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("mask", [0b1, 0b1010, 0b11111111])
def test_taking_gpus_leaves_what_nova_leaves_after_the_claim(cloud, mask):
    host = cloud.hosts[0]
    spec_obj = schedulers.make_request_spec(workload.Flavor(mask.bit_count()))
    (request,) = spec_obj.pci_requests.requests
    (candidate,) = placement_model.offer(host, [mask], request.request_id)
    nova = copy.deepcopy(host.state.pci_stats)
    nova.apply_requests([request], candidate["mappings"])
    cloud.take(host, mask)
    assert host.state.pci_stats.pools == nova.pools


def test_gpus_that_are_used_from_the_start_are_not_free():
    (spec,) = hosts_file.read([{"machine": "pcie-4", "used": [0, 2]}], "test")
    cloud = clouds.Cloud([spec])
    host = cloud.hosts[0]
    assert (cloud.capacity, cloud.free, cloud.used) == (4, 2, 2)
    assert _providers(host.state.pci_stats.pools) == [
        host.providers[1],
        host.providers[3],
    ]


def test_sums_follow_whatever_is_taken_and_given_back(cloud):
    chance = random.Random(1)
    taken = []
    for _ in range(300):
        if taken and chance.random() < 0.45:
            host, mask = taken.pop(chance.randrange(len(taken)))
            cloud.give_back(host, mask)
        else:
            host = chance.choice(cloud.hosts)
            free = list_devices(host.free)
            gpus = chance.sample(free, chance.randint(0, len(free)))
            mask = sum(1 << gpu for gpu in gpus)
            cloud.take(host, mask)
            taken.append((host, mask))
        assert cloud.free == sum(
            len(host.state.pci_stats.pools) for host in cloud.hosts
        )
        assert cloud.fragmentation == pytest.approx(
            sum(
                fragmentation.build_measure(
                    host.kind.topology, fragmentation.DEFAULT_MIX
                ).measure(host.free)
                for host in cloud.hosts
            )
        )
        looks = cloud.list_distinct_hosts(None, 1)
        assert sum(count for _, count in looks) == sum(
            host.free > 0 for host in cloud.hosts
        )
        for host, count in looks:
            alike = [
                other
                for other in cloud.hosts
                if (other.kind, other.free) == (host.kind, host.free)
            ]
            assert (alike[0], len(alike)) == (host, count)


def test_only_hosts_of_the_model_with_enough_free_gpus_are_offered(cloud):
    first = cloud.hosts[0]
    cloud.take(first, 0b1)
    assert [host.number for host, _ in cloud.list_distinct_hosts(None, 8)] == [
        1
    ]
    assert [
        host.number for host, _ in cloud.list_distinct_hosts("H100", 2)
    ] == [0, 1]
    assert [host.number for host, _ in cloud.list_distinct_hosts("T4", 2)] == [
        3
    ]
    assert cloud.list_distinct_hosts("T4", 3) == []
    assert cloud.count_free("T4") == 4
    assert cloud.count_free("H100") == 23


def test_gpus_cannot_be_taken_or_given_back_twice(cloud):
    host = cloud.hosts[0]
    cloud.take(host, 0b11)
    with pytest.raises(ValueError, match="hgx-h100-fabric-0: GPUs 0x2"):
        cloud.take(host, 0b10)
    with pytest.raises(ValueError, match="hgx-h100-fabric-0: GPUs 0x6"):
        cloud.give_back(host, 0b110)
