# SPDX-License-Identifier: Apache-2.0

"""The rules one by one, on named hosts; the differential test has the rest."""

import copy

import pytest

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools.matchers import nova

H100 = (("vendor_id", "10de"), ("product_id", "2330"))
CX7 = (("vendor_id", "15b3"), ("product_id", "1021"))


def hgx(free=8):
    """Free GPUs of an 8-GPU host with PCI in Placement, two NUMA nodes."""
    return [
        {
            "vendor_id": "10de",
            "product_id": "2330",
            "dev_type": "type-PCI",
            "numa_node": index // 4,
            "count": 1,
            "address": f"0000:{0x10 + index:02x}:00.0",
            "rp_uuid": f"gpu{index}",
        }
        for index in range(free)
    ]


def legacy(count, **properties):
    """A pool of a host that does not report to Placement."""
    pool = dict(H100) | {"dev_type": "type-PCI", "numa_node": 0}
    return pool | {"count": count} | properties


def asking(count, request_id="r", specs=(H100,), **fields):
    defaults = {
        "alias_name": "h100",
        "numa_policy": "legacy",
        "rp_uuids": (),
        "wants_pf": False,
        "wants_vdpa": False,
        "wants_remote_managed": False,
        "live_migratable": None,
    }
    return request.DeviceRequest(
        request_id=request_id,
        count=count,
        specs=specs,
        **defaults | fields,
    )


def candidate(*rp_uuids, request_id="r"):
    return {f"{request_id}-{n}": [uuid] for n, uuid in enumerate(rp_uuids)}


def match(pools, requests, mappings):
    before = copy.deepcopy(pools)
    answer = nova.NovaPoolMatcher().match(
        matcher.HostPools(pools),
        request.DeviceRequests(tuple(requests)),
        mappings,
    )
    assert pools == before, "asking must not consume"
    assert bool(answer.accepted) == (answer.refusal is None)
    return answer


def test_candidates_of_free_devices_are_kept_in_order():
    answer = match(
        hgx(free=4),
        [asking(2)],
        [
            candidate("gpu0", "gpu1"),
            candidate("gpu0", "gpu7"),
            candidate("gpu3", "gpu2"),
        ],
    )
    assert list(answer.accepted) == [0, 2]


def test_a_later_request_sees_what_an_earlier_one_took():
    twice = [asking(1, "a"), asking(1, "b")]
    mapping = {"a-0": ["gpu0"], "b-0": ["gpu0"]}
    assert not match(hgx(), twice, [mapping]).accepted
    mapping["b-0"] = ["gpu1"]
    assert match(hgx(), twice, [mapping]).accepted


def test_legacy_requests_share_the_count_of_a_pool():
    assert match([legacy(3)], [asking(1), asking(2)], [{}]).accepted
    assert not match([legacy(3)], [asking(2), asking(2)], [{}]).accepted


def test_legacy_requests_spread_over_pools():
    pools = [legacy(1), legacy(2, numa_node=1)]
    assert match(pools, [asking(2), asking(1)], [{}]).accepted
    assert not match(pools, [asking(2), asking(2)], [{}]).accepted


def test_a_provider_in_two_pools_is_refused():
    pools = [*hgx(2), hgx(1)[0] | {"numa_node": 1}]
    answer = match(pools, [asking(1)], [candidate("gpu1")])
    assert answer.refusal.cause is refusal.Cause.SPLIT_PROVIDER


class TestRefusal:
    def test_of_a_host_without_free_devices(self):
        answer = match([], [asking(1)], [{}])
        assert answer.refusal.cause is refusal.Cause.NO_PCI_DEVICES

    def test_of_a_host_whose_candidates_other_filters_removed(self):
        answer = match(hgx(), [asking(1)], [])
        assert answer.refusal.cause is refusal.Cause.NO_CANDIDATE

    def test_says_what_was_asked_and_what_was_free(self):
        nic = {"vendor_id": "15b3", "product_id": "1021", "count": 3}
        answer = match([*hgx(2), nic], [asking(4)], [{}])
        assert answer.refusal == refusal.Refusal(
            refusal.Cause.TOO_FEW_DEVICES,
            request="h100",
            asked=4,
            specs=(H100,),
            free=5,
            dropped=((refusal.Drop.PROPERTIES, 3),),
            candidates=1,
        )

    def test_names_the_request_that_did_not_fit(self):
        nics = asking(1, "n", specs=(CX7,), alias_name="cx7")
        answer = match(hgx(), [asking(1), nics], [{}])
        assert answer.refusal.request == "cx7"
        assert answer.refusal.free == 7

    def test_says_when_placement_offers_what_nova_has_not_free(self):
        answer = match(hgx(free=2), [asking(1)], [candidate("gpu5")])
        assert answer.refusal.cause is refusal.Cause.NOT_ALLOCATED
        assert answer.refusal.dropped == ((refusal.Drop.NOT_ALLOCATED, 2),)

    @pytest.mark.parametrize(
        ("properties", "cause"),
        [
            ({"dev_type": "type-PF"}, refusal.Cause.UNREQUESTED_PF),
            ({"dev_type": "vdpa"}, refusal.Cause.UNREQUESTED_VDPA),
            ({"remote_managed": "true"}, refusal.Cause.REMOTE_MANAGED),
        ],
    )
    def test_names_the_devices_nobody_asked_for(self, properties, cause):
        answer = match([legacy(2, **properties)], [asking(1)], [{}])
        assert answer.refusal.cause is cause
        assert answer.refusal.left == 0

    def test_names_live_migratable(self):
        asked = asking(1, live_migratable="true")
        answer = match([legacy(1)], [asked], [{}])
        assert answer.refusal.cause is refusal.Cause.LIVE_MIGRATABLE
