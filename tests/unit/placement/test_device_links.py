# SPDX-License-Identifier: Apache-2.0

import logging

from nova_gpu_filter.placement import device_links
from tests.unit.placement import builders


def test_devices_of_one_kind_of_host_have_one_order():
    links = [["CUSTOM_GPU_LINK_PIX_1"], ["CUSTOM_GPU_LINK_PIX_0"], []]
    one = builders.devices(*links)
    other = builders.devices(*reversed(links))
    orders, topologies = zip(
        *(device_links.arrange(found, found) for found in (one, other)),
        strict=True,
    )
    assert list(orders) == [
        ["device2", "device1", "device0"],
        ["device0", "device1", "device2"],
    ]
    assert topologies[0] is topologies[1]


def test_other_traits_do_not_matter():
    assert builders.topology(["CUSTOM_RED"], []) is builders.topology(
        [], ["CUSTOM_GPU"]
    )


def test_broken_traits_are_told_once_and_count_as_none(caplog):
    broken = builders.devices(["CUSTOM_GPU_LINK_TIN_0"], [])
    with caplog.at_level(logging.WARNING):
        found = [device_links.arrange(broken, broken)[1] for _ in range(2)]
    assert found == [builders.topology([], [])] * 2
    [record] = caplog.records
    assert "device0" in record.getMessage()
    assert "CUSTOM_GPU_LINK_TIN_0" in record.getMessage()
