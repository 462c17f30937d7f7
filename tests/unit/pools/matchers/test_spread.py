# SPDX-License-Identifier: Apache-2.0

"""``gpu:spread``, with what Nova's own PciDeviceStats then consumes."""

import itertools

from nova import objects
from nova.pci import stats
import pytest

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools.matchers import topology
from nova_gpu_filter.scheduler import extra_spec_validators
from nova_gpu_filter.topology import policy

VF = {"vendor_id": "10de", "product_id": "2235", "dev_type": "type-VF"}


def pci_stats(free):
    """A host whose GPUs have so many free VFs each."""
    return stats.PciDeviceStats(
        None,
        stats=objects.PciDevicePoolList(
            objects=[
                objects.PciDevicePool.from_dict(
                    VF
                    | {
                        "numa_node": 0,
                        "count": count,
                        "address": f"0000:{0x41 + number:02x}:00.0",
                        "rp_uuid": f"gpu{number}",
                    }
                )
                for number, count in enumerate(free)
            ]
        ),
    )


def asking(count):
    return objects.InstancePCIRequest(
        request_id="r",
        alias_name="vf",
        count=count,
        spec=[dict(VF)],
        numa_policy=None,
    )


def candidates(free, count):
    """As Placement gives them: each product of providers within capacity."""
    return [
        {f"r-{n}": [f"gpu{gpu}"] for n, gpu in enumerate(gpus)}
        for gpus in itertools.product(range(len(free)), repeat=count)
        if all(gpus.count(gpu) <= free[gpu] for gpu in gpus)
    ]


def order(free, count, spread, **choice):
    """The candidates in their order, and what Nova says of each."""
    host, asked = pci_stats(free), asking(count)
    mappings = candidates(free, count)
    requests = request.DeviceRequests(
        (request.DeviceRequest.from_nova(asked),),
        spread=spread and policy.Spread(spread),
        **choice,
    )
    found = topology.TopologyPoolMatcher().match(
        matcher.HostPools(host.pools), requests, mappings
    )
    for index in found.accepted:
        assert host.support_requests([asked], provider_mapping=mappings[index])
    assert sorted(found.accepted) == list(range(len(mappings)))
    return [mappings[index] for index in found.accepted]


def consume(free, mapping, count):
    """What is left of the VFs when Nova has taken a candidate."""
    host = pci_stats(free)
    asked = asking(count)
    host.apply_requests([asked], mapping)
    left = {pool["rp_uuid"]: pool["count"] for pool in host.pools}
    return [left.get(f"gpu{number}", 0) for number in range(len(free))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("free", "count", "spread", "left"),
    [
        ([4, 4], 2, "spread", [3, 3]),
        ([1, 4], 1, "spread", [1, 3]),
        ([1, 4], 1, "pack", [0, 4]),
        ([2, 4, 4], 2, "pack", [0, 4, 4]),
        ([1, 4, 4], 2, "pack", None),
        ([1, 3, 4], 2, "spread", [1, 2, 3]),
        ([1, 1], 2, "pack", [0, 0]),
        ([4, 1], 3, "spread", [2, 0]),
        ([3], 2, "spread", [1]),
        ([2, 4], 3, "pack", [2, 1]),
    ],
)
def test_vfs_come_from_many_or_few_gpus(free, count, spread, left, seed):
    first = order(free, count, spread, seed=seed)[0]
    found = consume(free, first, count)
    if left is None:
        # Either of two that are alike.
        assert sorted(found) == [1, 2, 4]
    else:
        assert found == left


def test_all_candidates_stay_whatever_comes_first():
    every = order([2, 2], 2, None)
    for spread in ("pack", "spread"):
        assert len(order([2, 2], 2, spread)) == len(every) == 4


def test_a_server_that_moves_gets_the_first_devices():
    asked = asking(1)
    mappings = candidates([4, 1], 1)
    accepted = {
        spread: topology.TopologyPoolMatcher()
        .match(
            matcher.HostPools(pci_stats([4, 1]).pools),
            request.DeviceRequests(
                (request.DeviceRequest.from_nova(asked),),
                spread=spread,
                first_fit=True,
            ),
            mappings,
        )
        .accepted
        for spread in (None, policy.Spread.PACK)
    }
    assert accepted[None] == accepted[policy.Spread.PACK]


def test_a_host_of_many_gpus_is_ordered_too():
    free = [2] * 70
    host, asked = pci_stats(free), asking(2)
    mappings = [{"r-0": ["gpu0"], "r-1": [f"gpu{gpu}"]} for gpu in (1, 0, 2)]
    found = topology.TopologyPoolMatcher().match(
        matcher.HostPools(host.pools),
        request.DeviceRequests(
            (request.DeviceRequest.from_nova(asked),),
            spread=policy.Spread.PACK,
        ),
        mappings,
    )
    assert found.accepted[0] == 1


@pytest.mark.parametrize("value", ["", "Pack", "both"])
def test_another_value_is_refused_with_the_good_ones(value):
    with pytest.raises(policy.PolicyError, match="pack, spread"):
        policy.parse_spread({"gpu:spread": value})
    (validator,) = [
        one
        for one in extra_spec_validators.register()
        if one.name == "gpu:spread"
    ]
    assert value not in validator.value["enum"]
