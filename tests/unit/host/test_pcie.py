# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.topology import links
from tests import sysfs_trees


def host_of(root, *, numa=(0, 0), build):
    """Two devices, at the ends of what ``build`` makes."""
    host = sysfs_trees.Host(root)
    host.nodes(2)
    for index, parent in enumerate(build(host)):
        host.add(
            sysfs_trees.Pci(
                f"0000:{0xA0 + index:02x}:00.0",
                parent,
                "10de:2330",
                0x030200,
                numa=numa[index],
            )
        )
    return host


def one_switch(host):
    host.switch(
        "pci0000:10",
        "0000:10:01.0",
        "0000:11:00.0",
        ["0000:12:00.0", "0000:12:01.0"],
    )
    return "0000:12:00.0", "0000:12:01.0"


def switch_below_a_switch(host):
    #            one of two  other device
    #            |           |
    # 10:01.0 -- 11:00.0 12:00.0
    #                    12:01.0 -- 13:00.0 14:00.0
    first, second = one_switch(host)
    host.bridge("0000:13:00.0", second)
    host.bridge("0000:14:00.0", "0000:13:00.0")
    return first, "0000:14:00.0"


def two_switches_below_one(host):
    first, second = one_switch(host)
    host.bridge("0000:13:00.0", first)
    host.bridge("0000:14:00.0", "0000:13:00.0")
    host.bridge("0000:15:00.0", second)
    host.bridge("0000:16:00.0", "0000:15:00.0")
    return "0000:14:00.0", "0000:16:00.0"


def two_root_ports(host):
    return (
        host.bridge("0000:10:01.0", "pci0000:10"),
        host.bridge("0000:10:02.0", "pci0000:10"),
    )


def one_root_port(host):
    port = host.bridge("0000:10:01.0", "pci0000:10")
    return port, port


def a_port_of_the_switch_itself(host):
    # A function beside the upstream port, as the DMA engine of a switch is.
    first, _ = one_switch(host)
    return first, "0000:10:01.0"


def two_buses(host):
    return "pci0000:10", "pci0000:20"


@pytest.mark.parametrize(
    ("build", "numa", "expected"),
    [
        (one_root_port, (0, 0), links.PIX),
        (one_switch, (0, 0), links.PIX),
        (a_port_of_the_switch_itself, (0, 0), links.PIX),
        (switch_below_a_switch, (0, 0), links.PXB),
        (two_switches_below_one, (0, 0), links.PXB),
        (two_root_ports, (0, 0), links.PHB),
        (two_root_ports, (-1, -1), links.PHB),
        (two_buses, (0, 0), links.NODE),
        (two_buses, (0, 1), links.SYS),
        (two_buses, (-1, -1), links.SYS),
        (two_buses, (0, -1), links.SYS),
    ],
)
def test_the_common_bridge_says_how_two_devices_are_connected(
    tmp_path, read, build, numa, expected
):
    inventory = read(host_of(tmp_path, numa=numa, build=build))
    a, b = inventory.gpus
    assert pcie.find_way(a, b, inventory.numa_nodes) == expected
    assert pcie.find_way(b, a, inventory.numa_nodes) == expected


def test_on_a_host_of_one_numa_node_all_is_near(tmp_path, read):
    inventory = read(host_of(tmp_path, numa=(-1, -1), build=two_buses))
    a, b = inventory.gpus
    assert pcie.find_way(a, b, (0,)) == links.NODE


def test_a_device_and_itself_have_no_link_between_them(build, read):
    gpu = read(build("k2_host")).gpus[0]
    assert pcie.find_way(gpu, gpu) == links.SELF


EXPECTED = {
    "k2_host": {"PIX": 1},
    "hgx_h100": {"PIX": 6 * 4 + 6, "NODE": 16 + 16 + 32, "SYS": 96},
    "a100_bridge_pairs": {"NODE": 2, "SYS": 4},
    "dgx1_v100": {"PIX": 4, "PHB": 8, "SYS": 16},
    "mi300x": {"SYS": 1},
    "laptop": {"PHB": 1},
}


@pytest.mark.parametrize("machine", EXPECTED)
def test_the_relations_of_each_machine_are_as_built(build, read, machine):
    inventory = read(build(machine))
    counts = {}
    for a, b in itertools.combinations(inventory.devices, 2):
        link = links.name(pcie.find_way(a, b, inventory.numa_nodes))
        counts[link] = counts.get(link, 0) + 1
    assert counts == EXPECTED[machine]
