# SPDX-License-Identifier: Apache-2.0

"""Hosts as none was built yet: the work that they cause is counted."""

import itertools
import random

import pytest

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import usable_devices
from nova_gpu_filter.pools.matchers import topology
from nova_gpu_filter.topology import cliques
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology import policy
from nova_gpu_filter.topology.topology import Topology
from tests import pools
from tests.unit.pools.matchers.test_topology import asking
from tests.unit.pools.matchers.test_topology import candidate


@pytest.fixture
def steps(monkeypatch):
    """Count the steps of all searches."""
    taken = []
    take = cliques.Steps.take

    def counted(self, number=1):
        taken.append(number)
        return take(self, number)

    monkeypatch.setattr(cliques.Steps, "take", counted)
    return taken


def random_links(n, seed):
    rng = random.Random(seed)
    names = ("NV1", "NV2", "PIX", "PXB", "PHB", "NODE", "SYS")
    matrix = [[links.SYS] * n for _ in range(n)]
    for a, b in itertools.combinations(range(n), 2):
        matrix[a][b] = matrix[b][a] = links.parse(rng.choice(names))
    return Topology.from_matrix(matrix, (), [rng.randrange(4)] * n)


def some_candidates(n, k):
    rng = random.Random(k)
    return [candidate(rng.sample(range(n), k)) for _ in range(16)]


@pytest.mark.parametrize("link", [None, "nvlink", "node"])
@pytest.mark.parametrize("k", [1, 2, 4, 8, 16])
def test_64_devices_with_random_links_are_bounded_work(steps, k, link):
    n = 64
    asked = link and policy.LinkPolicy(policy.Requirement(link))
    match = topology.TopologyPoolMatcher().match(
        matcher.HostPools(pools.of(random_links(n, seed=k))),
        request.DeviceRequests((asking(k),), link_policy=asked),
        some_candidates(n, k),
    )
    assert sum(steps) < 200_000
    if link is None:
        assert len(match.accepted) == 16
    assert (match.refusal is None) == bool(match.accepted)


def many_pools(n, tag=lambda device: None):
    return [
        pools.H100
        | {
            "dev_type": "type-PCI",
            "numa_node": device % 2,
            "count": 1,
            "address": f"{device >> 8:04x}:{device & 255:02x}:00.0",
            "rp_uuid": f"gpu{device}",
            "gpu_links": tag(device),
        }
        for device in range(n)
    ]


@pytest.mark.parametrize("in_groups", [False, True])
def test_2000_devices_keep_the_order_of_nova(monkeypatch, in_groups):
    compared = []
    from_pools = host_topologies.build_from_pools
    monkeypatch.setattr(
        host_topologies,
        "build_from_pools",
        lambda found: compared.append(len(found)) or from_pools(found),
    )
    host_pools = many_pools(
        2000, lambda n: f"pix:{n // 4}" if in_groups else None
    )
    mappings = [candidate((0, 1)), candidate((0, 4)), candidate((9, 8))]
    asked = policy.LinkPolicy(policy.Requirement.PIX)
    without, required = (
        topology.TopologyPoolMatcher().match(
            matcher.HostPools(host_pools),
            request.DeviceRequests((asking(2),), link_policy=link_policy),
            mappings,
        )
        for link_policy in (None, asked)
    )
    assert list(without.accepted) == [0, 1, 2]
    assert list(required.accepted) == ([0, 2] if in_groups else [])
    assert max(compared) <= usable_devices.MOST_COMPARED
    if not in_groups:
        assert "too many to compare" in required.refusal.detail
