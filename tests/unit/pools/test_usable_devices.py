# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.pools import usable_devices
from nova_gpu_filter.topology import links
from tests import machines
from tests import pools
from tests.unit.pools.matchers.test_topology import asking


@pytest.fixture
def usable():
    return usable_devices.find_usable(
        pools.of(machines.bridge_pairs_h100_nvl()), asking(1)
    )


def test_devices_are_in_the_order_of_their_addresses():
    host = pools.of(machines.hgx_h100(), free=range(3))
    host[0]["address"] = "10000:01:00.0"
    host[1]["address"] = "0001:01:00.0"
    host[2]["address"] = "0000:ff:00.0"
    assert usable_devices.find_usable(host, asking(1)).names == (
        "0000:ff:00.0",
        "0001:01:00.0",
        "10000:01:00.0",
    )


def test_links_come_from_the_tags(usable):
    assert usable.topology.find_weakest_link(0b11) == links.make_nvlink(12)
    assert usable.topology.find_weakest_link(0b110) == links.NODE


def test_only_what_a_request_can_use_counts():
    host = pools.of(machines.hgx_h100(), free=range(4))
    host[0]["product_id"] = "20b0"
    host[1]["dev_type"] = "type-PF"
    host[2]["count"] = 0
    assert usable_devices.find_usable(host, asking(1)).names == (
        pools.address(3),
    )


def test_a_set_is_a_mask_with_names(usable):
    mask = usable.make_mask(["gpu3", "gpu0"])
    assert mask == 0b1001
    assert usable.list_addresses(mask) == (pools.address(0), pools.address(3))


@pytest.mark.parametrize("rp_uuids", [["gpu0", "gpu0"], ["gpu0", "nic0"]])
def test_providers_that_are_no_set_of_devices_have_no_mask(usable, rp_uuids):
    assert usable.make_mask(rp_uuids) is None


def test_a_host_without_devices_is_no_error():
    none = usable_devices.find_usable([], asking(1))
    assert none.names == ()
    assert none.topology.n == 0
