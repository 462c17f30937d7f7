# SPDX-License-Identifier: Apache-2.0

import uuid

from nova import objects
from oslo_config import cfg
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler import device_requests
from nova_gpu_filter.topology import policy


@pytest.fixture(autouse=True)
def _options():
    conf.register_opts(cfg.CONF)


def spec_obj(extra_specs=None, **fields):
    request = objects.InstancePCIRequest(
        count=2, request_id=uuids.req, alias_name="h100", spec=[{}]
    )
    return objects.RequestSpec(
        flavor=objects.Flavor(name="gpu.2", extra_specs=extra_specs or {}),
        pci_requests=objects.InstancePCIRequests(requests=[request]),
        **fields,
    )


def test_the_link_policy_is_that_of_the_flavor():
    read = device_requests.read_spec_obj(spec_obj({"gpu:link": "nvlink"}))
    assert read.link_policy == policy.LinkPolicy(policy.Requirement.NVLINK)
    assert read.bad_link_policy is None
    assert [asked.count for asked in read.requests] == [2]


@pytest.mark.parametrize(
    ("extra_specs", "says"),
    [
        ({"gpu:link": "nvlnk"}, ["gpu:link", "'nvlnk'", "nvlink"]),
        (
            {"gpu:link": "pix", "gpu:link_policy": "strict"},
            ["gpu:link_policy", "'strict'", "preferred"],
        ),
        ({"gpu:link_policy": "required"}, ["gpu:link_policy", "gpu:link"]),
        ({"gpu:spread": "both"}, ["gpu:spread", "'both'", "pack, spread"]),
    ],
)
def test_a_bad_policy_is_told_with_flavor_key_and_value(extra_specs, says):
    read = device_requests.read_spec_obj(spec_obj(extra_specs))
    assert read.link_policy is None
    for words in ["gpu.2", *says]:
        assert words in read.bad_link_policy


def test_devices_of_ports_are_not_spread():
    asked = spec_obj({"gpu:spread": "pack"})
    assert device_requests.read_spec_obj(asked).spread is not None
    [request] = asked.pci_requests.requests
    request.alias_name = None
    assert not device_requests.names_alias(asked)
    read = device_requests.read_spec_obj(asked)
    assert (read.spread, read.bad_link_policy) == (None, None)


def test_the_seed_is_the_instance():
    read = device_requests.read_spec_obj(
        spec_obj(instance_uuid=uuids.instance)
    )
    assert read.seed == uuid.UUID(uuids.instance).int
    assert device_requests.read_spec_obj(spec_obj()).seed == 0


def test_a_request_spec_without_flavor_has_no_policy():
    bare = spec_obj()
    del bare.flavor
    assert device_requests.read_spec_obj(bare).link_policy is None


@pytest.mark.parametrize(
    ("fields", "moved"),
    [
        ({}, False),
        ({"requested_destination": None}, False),
        ({"requested_destination": objects.Destination(host="a")}, False),
        (
            {
                "requested_destination": objects.Destination(
                    cell=objects.CellMapping(uuid=uuids.cell)
                )
            },
            True,
        ),
    ],
)
def test_a_server_that_moves_is_known_by_its_cell(fields, moved):
    read = device_requests.read_spec_obj(spec_obj(**fields))
    assert read.first_fit is moved


def test_where_a_guest_with_numa_topology_ends_cannot_be_foreseen():
    moved = spec_obj(
        requested_destination=objects.Destination(
            cell=objects.CellMapping(uuid=uuids.cell)
        ),
        numa_topology=objects.InstanceNUMATopology(
            cells=[objects.InstanceNUMACell(id=0)]
        ),
    )
    assert not device_requests.read_spec_obj(moved).first_fit
