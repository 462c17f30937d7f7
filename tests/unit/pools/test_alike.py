# SPDX-License-Identifier: Apache-2.0

import itertools

from nova import objects
import pytest

from nova_gpu_filter.pools import alike
from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import request


def asked(count, name="gpu", product="2330"):
    return objects.InstancePCIRequest(
        count=count,
        request_id=name,
        alias_name=name,
        spec=[{"vendor_id": "10de", "product_id": product}],
    )


def pool(rp_uuid, node, count=1, product="2330", **tags):
    return {
        "vendor_id": "10de",
        "product_id": product,
        "dev_type": "type-PCI",
        "numa_node": node,
        "count": count,
        "rp_uuid": rp_uuid,
        **tags,
    }


def keep(pools, requests, mappings):
    found = alike.keep_some_of_each_kind(
        matcher.HostPools(pools),
        request.DeviceRequests(
            tuple(map(request.DeviceRequest.from_nova, requests))
        ),
        mappings,
        range(len(mappings)),
    )
    return [mappings[index] for index in found]


def sets_of(devices, k, **others):
    return [
        {f"gpu-{n}": [d] for n, d in enumerate(found)} | others
        for found in itertools.combinations(devices, k)
    ]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        # None, one or two of them are on the second node.
        pytest.param({}, 3, id="nodes"),
        pytest.param({"gpu_links": "pix:7"}, 3, id="what Nova does not read"),
        pytest.param({"numa_node": None}, 5, id="no node"),
        pytest.param({"count": 2}, 5, id="more in its pool"),
    ],
)
def test_devices_are_told_apart_as_nova_does(change, kinds):
    devices = "abcdefghijklmnop"
    pools = [pool(name, int(name > "h")) for name in devices]
    pools[0] |= change
    kept = keep(pools, [asked(2)], sets_of(devices, 2))
    assert len(kept) == kinds * alike.MOST_OF_A_KIND


def test_the_first_of_each_kind_are_kept_in_their_order():
    pools = [pool(name, 0) for name in "abcdef"]
    mappings = sets_of("abcdef", 2)
    assert keep(pools, [asked(2)], mappings) == mappings[:4]


def test_few_of_many_kinds_are_kept_but_one_of_each():
    devices = [f"d{n}" for n in range(100)]
    pools = [pool(name, n // 2) for n, name in enumerate(devices)]
    kept = keep(pools, [asked(1)], sets_of(devices, 1))
    assert [mapping["gpu-0"][0] for mapping in kept] == devices[::2]


def test_devices_of_another_request_count():
    pools = [pool(f"g{n}", 0) for n in range(6)] + [
        pool(f"n{n}", n % 2, product="1021") for n in range(2)
    ]
    mappings = [
        {"gpu-0": [f"g{n}"], "nic-0": [f"n{m}"]}
        for n in range(6)
        for m in range(2)
    ]
    kept = keep(
        pools, [asked(1), asked(1, name="nic", product="1021")], mappings
    )
    assert len(kept) == 8
    assert {mapping["nic-0"][0] for mapping in kept} == {"n0", "n1"}


def test_what_serves_other_groups_is_kept_apart():
    pools = [pool(name, 0) for name in "abcdef"]
    mappings = [
        mapping
        for port in ("p", "q")
        for mapping in sets_of("abcdef", 2, **{"": ["h"], "port": [port]})
    ]
    kept = keep(pools, [asked(2)], mappings)
    assert [mapping["port"] for mapping in kept] == [["p"]] * 4 + [["q"]] * 4
