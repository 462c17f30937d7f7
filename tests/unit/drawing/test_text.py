# SPDX-License-Identifier: Apache-2.0

"""Hosts drawn as text."""

import textwrap

import pytest

from nova_gpu_filter.drawing import arrange
from nova_gpu_filter.drawing import text
from nova_gpu_filter.topology import topology
from tests import machines


def _draw(name, topology_, names, owners):
    return text.draw(arrange.arrange_topology(name, topology_, names, owners))


def _names(host):
    return [f"0000:{0x10 + device:02x}:00.0" for device in range(host.n)]


PICTURES = [
    (
        machines.hgx_h100_partitions,
        {0: "one", 2: "two", 3: "two"},
        """
        host: 8 devices, 5 free
                              NV18  fabric
                               0    0/8  1/4  2/4  3/2  4/2  5/2  6/2
        NUMA node 0
          0000:10:00.0  one    #     #         #              #
          0000:11:00.0  free   o     o         o              o
          0000:12:00.0  two    #     #         #                   #
          0000:13:00.0  two    #     #         #                   #
        NUMA node 1            |     |
          0000:14:00.0  free   o     o    o         o
          0000:15:00.0  free   o     o    o         o
          0000:16:00.0  free   o     o    o              o
          0000:17:00.0  free   o     o    o              o
        partitions                   /    o    /    o    o    /    #
        # taken, o free, / broken: only a part is free
        below fabric: partition id/devices
        """,
    ),
    (
        machines.bridge_pairs_out_of_order,
        {},
        """
        host: 8 devices, 8 free
                              NV12
                               0     1     2     3
        NUMA node 0
          0000:10:00.0  free   o
          0000:11:00.0  free   |     o
          0000:12:00.0  free   o     |
          0000:13:00.0  free         o
        NUMA node 1
          0000:14:00.0  free               o
          0000:15:00.0  free               |     o
          0000:16:00.0  free               |     o
          0000:17:00.0  free               o
        o free
        """,
    ),
    (
        machines.pcie_every_link,
        {4: "a-long-name"},
        """
        host: 8 devices, 7 free
        NUMA node 0
          0000:14:00.0        a-long-name
          host bridge (PHB 0)
            0000:13:00.0      free
            PCIe switches (PXB 0)
              0000:12:00.0    free
              PCIe switch (PIX 0)
                0000:10:00.0  free
                0000:11:00.0  free
        NUMA node 1
          0000:17:00.0        free
          host bridge (PHB 1)
            0000:15:00.0      free
            0000:16:00.0      free
        """,
    ),
]


@pytest.mark.parametrize(
    ("machine", "owner_by_device", "picture"),
    PICTURES,
    ids=[machine.__name__ for machine, _, _ in PICTURES],
)
def test_a_row_is_a_device_and_a_column_is_a_group_or_a_partition(
    machine, owner_by_device, picture
):
    host = machine()
    owners = [owner_by_device.get(device) for device in range(host.n)]

    drawn = _draw("host", host, _names(host), owners)

    assert drawn == textwrap.dedent(picture).strip("\n")


def test_devices_stand_below_their_numa_nodes_whatever_their_order():
    host = machines.nested(3, ("NV12", [(0, 2)]), numa=(1, None, 0))

    assert _draw("host", host, "abc", [None, "me", None]) == (
        "host: 3 devices, 2 free\n"
        "             NV12\n"
        "              0\n"
        "b    me\n"
        "NUMA node 0\n"
        "  c  free     o\n"
        "NUMA node 1   |\n"
        "  a  free     o\n"
        "o free"
    )


def test_a_host_without_links_has_no_columns_and_no_legend():
    host = machines.nested(1, numa=(0,))

    assert _draw("host", host, ["gpu"], [None]) == (
        "host: 1 device, 1 free\nNUMA node 0\n  gpu  free"
    )


def test_a_host_without_devices_is_its_title():
    empty = topology.Topology.from_matrix([])

    assert _draw("host", empty, [], []) == "host: 0 devices, 0 free"


@pytest.mark.parametrize("machine", machines.MACHINES_OF_16)
def test_a_picture_has_one_row_a_device_and_no_space_at_line_ends(machine):
    host = machine()
    names = _names(host)
    lines = _draw("host", host, names, ["me"] * host.n).splitlines()

    assert [
        name for line in lines for name in names if f"  {name}  me" in line
    ] == names
    assert lines == [line.rstrip() for line in lines]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("names", "owners"), [(["a"], [None, None]), (["a", "b"], [None])]
)
def test_each_device_needs_a_name_and_an_owner(names, owners):
    host = machines.nested(2, numa=(0, 0))

    with pytest.raises(ValueError, match="2 devices"):
        _draw("host", host, names, owners)


def test_wide_characters_take_two_columns():
    host = machines.hgx_h100_partitions()
    owners = [None, "\u5b66\u4e60-1", "e\u0301tude", *[None] * 5]
    lines = _draw("host", host, _names(host), owners).splitlines()
    plain, wide, combined = lines[4:7]
    assert plain.index("o     o") - 2 == wide.index("#     #")
    assert plain.index("o     o") + 1 == combined.index("#     #")


@pytest.mark.parametrize("length", [30, 60, 255])
def test_owners_that_differ_in_the_middle_are_told_apart(length):
    """A row is no longer than that takes."""
    machine = machines.bridge_pairs_out_of_order()
    side = "x" * ((length - 1) // 2)
    owners = [f"{side}1{side}", f"{side}2{side}", *[None] * 6]
    drawn = _draw("host", machine, _names(machine), owners)
    shown = {line.split()[1] for line in drawn.splitlines() if "xx" in line}
    assert len(shown) == 2
    assert max(map(len, shown)) <= max(40, length)


def test_an_owner_alone_with_a_long_name_is_shortened():
    machine = machines.bridge_pairs_out_of_order()
    drawn = _draw("host", machine, _names(machine), ["x" * 99, *[None] * 7])
    (shown,) = [line.split()[1] for line in drawn.splitlines() if "xx" in line]
    assert len(shown) == 40
