# SPDX-License-Identifier: Apache-2.0

"""``gpu:spread`` for vGPUs, of which the scheduler knows the providers."""

import itertools
import logging

from nova import objects
from nova.pci import stats
from nova.scheduler import host_manager
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough

GROUPS = {"resources1:VGPU": "1", "resources2:VGPU": "1"}


@pytest.fixture
def config():
    with config_fixture.Config() as fixture:
        conf.register_opts(fixture.conf)
        yield fixture


def candidates(groups=2, gpus=3):
    """As Placement gives them: each product of providers."""
    return [
        {
            "allocations": {},
            "mappings": {"": ["host"]}
            | {str(n + 1): [f"gpu{gpu}"] for n, gpu in enumerate(found)},
        }
        for found in itertools.product(range(gpus), repeat=groups)
    ]


def order(specs, found=None, requests=(), **hints):
    """What the filter leaves of the candidates of a host, in its order."""
    state = host_manager.HostState("host", "host", uuids.cell)
    state.allocation_candidates = candidates() if found is None else found
    state.pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
    state.pci_stats.pools = [
        {
            "vendor_id": "15b3",
            "product_id": "101e",
            "numa_node": 0,
            "dev_type": "type-VF",
            "physical_network": "net",
            "remote_managed": "false",
            "count": 3,
        }
    ]
    spec_obj = objects.RequestSpec(
        instance_uuid=uuids.instance,
        scheduler_hints=hints,
        pci_requests=objects.InstancePCIRequests(requests=list(requests)),
        numa_topology=None,
        flavor=objects.Flavor(name="desktop", extra_specs=specs),
    )
    assert gpu_pci_passthrough.GpuPciPassthroughFilter().filter_all(
        [state], spec_obj
    ) == [state]
    return state.allocation_candidates


def gpus(candidate):
    return {
        gpu
        for suffix, found in candidate["mappings"].items()
        if suffix
        for gpu in found
    }


@pytest.mark.parametrize(
    ("spread", "numbers"),
    [("pack", [1] * 3 + [2] * 6), ("spread", [2] * 6 + [1] * 3)],
)
@pytest.mark.parametrize("name", ["VGPU", "CUSTOM_VGPU_A40_8Q"])
def test_vgpus_come_from_many_or_few_gpus(spread, numbers, name):
    specs = {f"resources{n}:{name}": "1" for n in (1, 2)}
    found = order({**specs, "gpu:spread": spread})
    assert [len(gpus(candidate)) for candidate in found] == numbers
    # Nothing is refused, and equal ones keep Placement's order.
    for number in (1, 2):
        assert [one for one in found if len(gpus(one)) == number] == [
            one for one in candidates() if len(gpus(one)) == number
        ]


def test_three_of_two_gpus_take_as_little_of_one_as_can_be():
    specs = {f"resources{n}:VGPU": "1" for n in (1, 2, 3, 4)}
    first, *_ = order(
        {**specs, "gpu:spread": "spread"}, candidates(groups=4, gpus=2)
    )
    taken = [found[0] for suffix, found in first["mappings"].items() if suffix]
    assert sorted(taken) == ["gpu0", "gpu0", "gpu1", "gpu1"]


@pytest.mark.parametrize(
    "specs",
    [
        GROUPS,
        {"resources:VGPU": "2", "gpu:spread": "pack"},
        {"resources1:VGPU": "1", "gpu:spread": "pack"},
        {"resources1:VGPU": "1", "resources2:VGPU": "0", "gpu:spread": "pack"},
        {"resources1:VCPU": "1", "resources2:VCPU": "1", "gpu:spread": "pack"},
        {"gpu:spread": "pack"},
        {},
    ],
)
def test_all_others_keep_their_order(specs):
    assert order(specs) == candidates()


def test_other_groups_do_not_count():
    """Such as those for bandwidth, which have providers of their own."""
    found = [
        {"mappings": {"1": [one], "2": [other], "_nic": [nic]}}
        for one, other, nic in (("g0", "g1", "n0"), ("g0", "g0", "n1"))
    ]
    specs = {**GROUPS, "resources_nic:VCPU": "1", "gpu:spread": "pack"}
    assert order(specs, found) == found[::-1]


def test_a_port_with_a_device_changes_nothing_of_it():
    port = objects.InstancePCIRequest(
        count=1,
        request_id=uuids.port,
        requester_id=uuids.port,
        spec=[{"physical_network": "net", "dev_type": "type-VF"}],
    )
    specs = {**GROUPS, "gpu:spread": "pack"}
    assert order(specs, requests=[port]) == order(specs) != candidates()


def test_a_bad_value_is_told_once_and_has_no_effect(caplog):
    specs = {**GROUPS, "gpu:spread": "both"}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert order(specs) == candidates()
    (record,) = caplog.records
    assert "desktop" in record.getMessage()
    assert "pack, spread" in record.getMessage()


def test_a_rebuild_and_the_matcher_of_nova_change_nothing(config):
    specs = {**GROUPS, "gpu:spread": "pack"}
    assert order(specs, _nova_check_type=["rebuild"]) == candidates()
    config.config(pool_matcher="nova", group="gpu_filter")
    assert order(specs) == candidates()
