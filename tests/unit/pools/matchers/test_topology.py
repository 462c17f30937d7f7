# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools.matchers import nova
from nova_gpu_filter.pools.matchers import topology
from nova_gpu_filter.topology import policy
from tests import machines
from tests import pools

NIC = {"vendor_id": "15b3", "product_id": "1021"}


def asking(count, request_id="r", spec=None, alias_name="h100"):
    return request.DeviceRequest(
        request_id=request_id,
        alias_name=alias_name,
        count=count,
        specs=(tuple((spec or pools.H100).items()),),
        numa_policy="legacy",
        rp_uuids=(),
        wants_pf=False,
        wants_vdpa=False,
        wants_remote_managed=False,
        live_migratable=None,
    )


def candidate(devices, prefix="gpu", request_id="r"):
    return {
        f"{request_id}-{n}": [f"{prefix}{device}"]
        for n, device in enumerate(devices)
    }


def all_candidates(free, count):
    """As Placement gives them: every ordered choice of the devices."""
    return [
        candidate(devices) for devices in itertools.permutations(free, count)
    ]


def link(value, required=True):
    return policy.LinkPolicy(policy.Requirement(value), required)


def match(host_pools, mappings, *requests, **choice):
    return topology.TopologyPoolMatcher().match(
        matcher.HostPools(host_pools),
        request.DeviceRequests(requests, **choice),
        mappings,
    )


def chosen(host_pools, mappings, *requests, **more):
    """Return the devices that the scheduler would claim, as numbers."""
    answer = match(host_pools, mappings, *requests, **more)
    assert answer.refusal is None
    return devices_of(mappings[answer.accepted[0]])


def devices_of(mapping, prefix="gpu"):
    return {
        int(rp_uuid.removeprefix(prefix))
        for (rp_uuid,) in mapping.values()
        if rp_uuid.startswith(prefix)
    }


@pytest.mark.parametrize("seed", range(5))
def test_two_gpus_are_a_bridged_pair_whatever_placement_offers_first(seed):
    host = pools.of(machines.bridge_pairs_out_of_order())
    devices = chosen(host, all_candidates(range(8), 2), asking(2), seed=seed)
    assert devices in ({0, 2}, {1, 3}, {4, 7}, {5, 6})


@pytest.mark.parametrize(
    ("free", "local_pairs"),
    [
        (range(8), [{0, 3}, {1, 2}, {2, 3}, {4, 7}, {5, 6}, {6, 7}]),
        ([0, 4, 5, 6], [{5, 6}]),
        ([1, 2, 5], [{1, 2}]),
        ([0, 4], [{0, 4}]),
    ],
)
def test_two_of_a_dgx_1_with_two_nvlinks_are_local(free, local_pairs):
    free = list(free)
    host = pools.of(machines.dgx1_v100(), free=free)
    mappings = all_candidates(free, 2)
    for seed in range(60):
        assert chosen(host, mappings, asking(2), seed=seed) in local_pairs


@pytest.mark.parametrize("count", [2, 4])
def test_behind_nvswitches_no_set_crosses_the_sockets(count):
    host = pools.of(machines.hgx_h100())
    mappings = all_candidates(range(8), count)
    for seed in range(60):
        devices = chosen(host, mappings, asking(count), seed=seed)
        assert len({device // 4 for device in devices}) == 1


def test_one_gpu_takes_the_lone_one():
    host = pools.of(machines.bridge_pairs_h100_nvl(), free=[0, 1, 3, 4, 5])
    assert chosen(host, all_candidates([0, 1, 3, 4, 5], 1), asking(1)) == {3}


def test_partitions_of_an_hgx_are_used_whole():
    host = pools.of(machines.hgx_h100_partitions())
    two = chosen(host, all_candidates(range(8), 2), asking(2))
    assert two in ({0, 1}, {2, 3}, {4, 5}, {6, 7})
    free = sorted(set(range(8)) - two)
    host = pools.of(machines.hgx_h100_partitions(), free=free)
    four = chosen(host, all_candidates(free, 4), asking(4))
    assert four in ({0, 1, 2, 3}, {4, 5, 6, 7})


def test_without_policy_every_candidate_of_nova_is_kept():
    host = pools.of(machines.hgx_h100_partitions(), free=range(6))
    mappings = all_candidates(range(8), 2)
    requests = request.DeviceRequests((asking(2),))
    stock = nova.NovaPoolMatcher().match(
        matcher.HostPools(host), requests, mappings
    )
    ours = match(host, mappings, asking(2))
    assert sorted(ours.accepted) == list(stock.accepted)
    assert len(ours.accepted) == 30


def test_the_second_half_of_a_multi_create_is_still_there():
    host = pools.of(machines.hgx_h100_partitions())
    mappings = all_candidates(range(8), 4)
    answer = match(host, mappings, asking(4))
    first = devices_of(mappings[answer.accepted[0]])
    kept = [mappings[index] for index in answer.accepted]
    left = pools.of(
        machines.hgx_h100_partitions(), free=sorted(set(range(8)) - first)
    )
    assert chosen(left, kept, asking(4)) == set(range(8)) - first


def test_a_required_policy_refuses_sets_that_violate_it():
    host = pools.of(machines.bridge_pairs_h100_nvl())
    mappings = all_candidates(range(8), 2)
    answer = match(host, mappings, asking(2), link_policy=link("nvlink"))
    sets = {frozenset(devices_of(mappings[i])) for i in answer.accepted}
    assert sets == {
        frozenset(pair) for pair in ((0, 1), (2, 3), (4, 5), (6, 7))
    }


def test_a_preferred_policy_refuses_nothing():
    host = pools.of(machines.bridge_pairs_h100_nvl(), free=[0, 2])
    preferred = link("nvlink", required=False)
    assert chosen(
        host, all_candidates([0, 2], 2), asking(2), link_policy=preferred
    ) == {0, 2}


def test_a_refusal_names_the_blockers_and_what_would_fit():
    host = pools.of(machines.bridge_pairs_h100_nvl(), free=[0, 1, 2, 3])
    answer = match(
        host,
        all_candidates(range(4), 4),
        asking(4),
        link_policy=link("nvlink"),
    )
    assert answer.accepted == ()
    assert answer.refusal.cause is refusal.Cause.LINK
    assert refusal.describe(answer.refusal) == (
        "no free set with the links asked for: h100 asks for 4 with"
        " gpu:link=nvlink; 4 free, largest nvlink set 2: 0000:12:00.0"
        " 0000:13:00.0; would fit with gpu:link=node"
    )


def test_a_refusal_says_when_only_placement_does_not_offer_the_set():
    host = pools.of(machines.bridge_pairs_h100_nvl())
    answer = match(
        host,
        [candidate([0, 2]), candidate([1, 3])],
        asking(2),
        link_policy=link("nvlink"),
    )
    assert "none of the 2 allocation candidates is one" in refusal.describe(
        answer.refusal
    )


def test_fabric_is_a_whole_partition_of_just_that_size():
    host = pools.of(machines.hgx_h100_partitions(), free=[0, 1, 2, 4, 5, 6])
    fabric = {"link_policy": link("fabric")}
    assert chosen(
        host, all_candidates([0, 1, 2, 4, 5, 6], 2), asking(2), **fabric
    ) in ({0, 1}, {4, 5})
    for count in (3, 4):
        mappings = all_candidates([0, 1, 2, 4, 5, 6], count)
        answer = match(host, mappings, asking(count), **fabric)
        assert answer.refusal.cause is refusal.Cause.LINK


def test_a_bad_policy_refuses_the_host_and_names_the_flavor():
    answer = match(
        pools.of(machines.hgx_h100()),
        all_candidates(range(8), 1),
        asking(1),
        bad_link_policy="flavor g: gpu:link = 'nvlnk': must be one of ...",
    )
    assert answer.refusal.cause is refusal.Cause.BAD_EXTRA_SPEC
    assert "flavor g: gpu:link = 'nvlnk'" in refusal.describe(answer.refusal)


class TestMoves:
    """nova-compute takes the first devices that match, in pool order."""

    MAPPINGS = all_candidates(range(8), 2)

    def host(self, *order):
        host = pools.of(machines.bridge_pairs_h100_nvl())
        return [host[device] for device in order]

    def test_the_candidate_that_nova_will_take_comes_first(self):
        host = self.host(5, 2, 0, 1, 3, 4, 6, 7)
        assert chosen(host, self.MAPPINGS, asking(2), first_fit=True) == {2, 5}
        answer = match(host, self.MAPPINGS, asking(2), first_fit=True)
        assert len(answer.accepted) == len(self.MAPPINGS)

    def test_devices_in_use_are_not_taken(self):
        host = self.host(5, 2, 0, 1, 3, 4, 6, 7)
        host[0]["count"] = 0
        assert chosen(host, self.MAPPINGS, asking(2), first_fit=True) == {0, 2}

    @pytest.mark.parametrize(
        ("order", "passes"), [((0, 1, 2, 3), True), ((1, 2, 0, 3), False)]
    )
    def test_a_required_policy_looks_at_the_devices_that_nova_will_take(
        self, order, passes
    ):
        answer = match(
            self.host(*order),
            all_candidates(range(4), 2),
            asking(2),
            link_policy=link("nvlink"),
            first_fit=True,
        )
        assert bool(answer.accepted) is passes
        if not passes:
            assert answer.refusal.cause is refusal.Cause.MOVE
            text = refusal.describe(answer.refusal)
            assert "0000:11:00.0 0000:12:00.0" in text
            assert "gpu:link=nvlink" in text

    def test_a_preferred_policy_refuses_no_move(self):
        preferred = link("nvlink", required=False)
        host = self.host(1, 2, 0, 3)
        assert chosen(
            host,
            all_candidates(range(4), 2),
            asking(2),
            link_policy=preferred,
            first_fit=True,
        ) == {1, 2}


def nic_pool(device, links, **properties):
    return (
        NIC
        | {
            "dev_type": "type-PCI",
            "numa_node": 0,
            "count": 1,
            "address": f"0000:{0x40 + device:02x}:00.0",
            "gpu_links": links,
            "rp_uuid": f"nic{device}",
        }
        | properties
    )


def links_beside(host, device):
    """Put the GPU's own PCIe switch, and the groups that it is part of, into
    the tag of a GPU; return the tag of a NIC on that switch."""
    text = host[device]["gpu_links"]
    host[device]["gpu_links"] = f"{text},pix:{90 + device}"
    ways = [part for part in text.split(",") if part[:2] not in ("nv", "fa")]
    return ",".join([*ways, f"pix:{90 + device}"])


class TestSeveralAliases:
    def host(self):
        """Two GPUs and two NICs on each of two switches, no NVLink."""
        gpus = pools.of(machines.hgx_h100(), free=range(4))
        for device, pool in enumerate(gpus):
            pool["gpu_links"] = f"pix:{device // 2},node:0"
        return gpus + [
            nic_pool(device, f"pix:{device // 2},node:0")
            for device in range(4)
        ]

    def test_nics_are_those_next_to_the_gpus(self):
        nics = asking(2, "n", spec=NIC, alias_name="cx7")
        mappings = [
            candidate(gpus) | candidate(nic_set, "nic", "n")
            for gpus in itertools.combinations(range(4), 2)
            for nic_set in itertools.combinations(range(4), 2)
        ]
        answer = match(self.host(), mappings, asking(2), nics)
        best = mappings[answer.accepted[0]]
        assert devices_of(best) in ({0, 1}, {2, 3})
        assert devices_of(best, "nic") == devices_of(best)
        assert len(answer.accepted) == len(mappings)

    @pytest.mark.parametrize("seed", range(60))
    @pytest.mark.parametrize("machine", ["hgx_h100", "pcie_pix_node_sys"])
    def test_gpus_are_those_with_free_nics(self, machine, seed):
        host = pools.of(getattr(machines, machine)())
        host += [
            nic_pool(device, links_beside(host, device)) for device in (2, 3)
        ]
        mappings = [
            candidate(gpus) | candidate((2, 3), "nic", "n")
            for gpus in itertools.permutations(range(8), 2)
        ]
        nics = asking(2, "n", spec=NIC, alias_name="cx7")
        assert chosen(host, mappings, asking(2), nics, seed=seed) == {2, 3}

    @pytest.mark.parametrize("pair", itertools.combinations(range(8), 2))
    def test_gpus_on_two_sockets_are_taken_if_only_these_have_nics(self, pair):
        host = pools.of(machines.hgx_h100())
        host += [
            nic_pool(device, links_beside(host, device)) for device in pair
        ]
        mappings = [
            candidate(gpus) | candidate(pair, "nic", "n")
            for gpus in itertools.permutations(range(8), 2)
        ]
        nics = asking(2, "n", spec=NIC, alias_name="cx7")
        for seed in range(5):
            devices = chosen(host, mappings, asking(2), nics, seed=seed)
            assert devices == set(pair)

    def test_functions_of_one_nic_go_with_several_gpus(self):
        host = [*self.host()[:4], nic_pool(0, "pix:1,node:0", count=2)]
        host += [nic_pool(1, "pix:0,node:0"), nic_pool(2, "node:0")]
        nics = asking(2, "n", spec=NIC, alias_name="cx7")
        mappings = [
            candidate(gpus) | candidate(nic_set, "nic", "n")
            for gpus in itertools.combinations(range(4), 2)
            for nic_set in [(1, 2), (0, 1), (0, 2), (0, 0)]
        ]
        answer = match(host, mappings, asking(2), nics)
        best = mappings[answer.accepted[0]]
        assert devices_of(best) == {2, 3}
        assert best["n-0"] == best["n-1"] == ["nic0"]

    def test_drives_count_beside_nics(self):
        nvme = {"vendor_id": "144d", "product_id": "a824"}
        host = self.host()[:4] + [
            nic_pool(device, f"pix:{device},node:0") for device in (0, 1)
        ]
        host.append(nic_pool(0, "pix:1,node:0") | nvme | {"rp_uuid": "nvme0"})
        nics = asking(1, "n", spec=NIC, alias_name="cx7")
        drive = asking(1, "d", spec=nvme, alias_name="nvme")
        mappings = [
            candidate([gpu])
            | candidate([nic], "nic", "n")
            | candidate([0], "nvme", "d")
            for gpu in range(4)
            for nic in (0, 1)
        ]
        answer = match(host, mappings, asking(1), nics, drive)
        best = mappings[answer.accepted[0]]
        assert devices_of(best) in ({2}, {3})
        assert devices_of(best, "nic") == {1}

    def test_requests_of_one_moment_take_other_nics(self):
        host = self.host()
        for pool in host:
            pool["gpu_links"] = "node:0"
        mappings = [
            candidate(gpus) | candidate(nic_set, "nic", "n")
            for gpus in itertools.combinations(range(4), 2)
            for nic_set in itertools.combinations(range(4), 2)
        ]
        nics = asking(2, "n", spec=NIC, alias_name="cx7")
        taken = set()
        for seed in range(20):
            answer = match(host, mappings, asking(2), nics, seed=seed)
            first, second = (
                frozenset(devices_of(mappings[index], prefix))
                for index in answer.accepted[:1]
                for prefix in ("gpu", "nic")
            )
            taken.add((first, second))
        assert len(taken) == 2
        (a, b), (c, d) = taken
        assert not a & c
        assert not b & d


class TestWithoutPlacement:
    """nova-compute takes any of the devices then."""

    LEGACY = ({"": ["root"]}, {"": ["root"]})

    def host(self, free):
        machine = machines.bridge_pairs_h100_nvl()
        return pools.of(machine, free=free, in_placement=False)

    def test_candidates_are_those_of_nova(self):
        answer = match(self.host(range(8)), self.LEGACY, asking(2))
        assert list(answer.accepted) == [0, 1]

    def test_a_required_policy_passes_hosts_where_any_set_satisfies_it(self):
        required = {"link_policy": link("nvlink")}
        good = match(self.host([0, 1]), self.LEGACY, asking(2), **required)
        assert list(good.accepted) == [0, 1]
        bad = match(self.host([0, 1, 2]), self.LEGACY, asking(2), **required)
        assert bad.refusal.cause is refusal.Cause.LINK

    def test_a_required_fabric_passes_where_all_that_is_free_is_one(self):
        machine = machines.hgx_h100_partitions()
        required = {"link_policy": link("fabric")}
        for free, passes in (([0, 1], True), ([0, 1, 2], False)):
            host = pools.of(machine, free=free, in_placement=False)
            answer = match(host, self.LEGACY, asking(2), **required)
            assert bool(answer.accepted) is passes


class TestTags:
    def test_hosts_without_tags_go_by_numa_node(self):
        host = pools.of(machines.hgx_h100())
        for pool in host:
            del pool["gpu_links"]
        devices = chosen(host, all_candidates(range(8), 4), asking(4))
        assert devices in ({0, 1, 2, 3}, {4, 5, 6, 7})

    def test_a_broken_tag_is_warned_of_and_the_host_still_serves(self, caplog):
        host = pools.of(machines.hgx_h100())
        host[3]["gpu_links"] = "nvl18:0"
        devices = chosen(host, all_candidates(range(8), 4), asking(4))
        assert devices in ({0, 1, 2, 3}, {4, 5, 6, 7})
        assert "0000:13:00.0" in caplog.text
        assert "nvl18:0" in caplog.text
        caplog.clear()
        chosen(host, all_candidates(range(8), 4), asking(4))
        assert caplog.text == "", "one warning, not one a request"

    def test_a_broken_tag_never_satisfies_a_required_nvlink(self):
        host = pools.of(machines.hgx_h100())
        host[3]["gpu_links"] = "nv18"
        answer = match(
            host,
            all_candidates(range(8), 2),
            asking(2),
            link_policy=link("nvlink"),
        )
        assert answer.refusal.cause is refusal.Cause.LINK


def test_vfs_of_one_device_are_accepted_as_nova_accepts_them():
    host = pools.of(machines.hgx_h100(), free=range(2), count=4)
    mappings = [candidate([0, 0]), candidate([0, 1])]
    answer = match(host, mappings, asking(2))
    assert sorted(answer.accepted) == [0, 1]


def test_a_request_of_ports_only_is_left_to_nova():
    port = asking(1, alias_name=None)
    host = pools.of(machines.hgx_h100())
    answer = match(host, [{"": ["root"]}], port, link_policy=link("nvlink"))
    assert list(answer.accepted) == [0]


def test_what_nova_refuses_is_refused_with_its_reason():
    host = pools.of(machines.hgx_h100(), free=range(2))
    answer = match(host, [{}], asking(4))
    assert answer.refusal.cause is refusal.Cause.TOO_FEW_DEVICES
