# SPDX-License-Identifier: Apache-2.0

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from tests import machines


@st.composite
def hosts(draw):
    n = draw(st.integers(1, 9))
    some_links = st.sampled_from(
        [
            links.SYS,
            links.NODE,
            links.PIX,
            links.make_nvlink(1),
            links.make_nvlink(2),
        ]
    )
    matrix = [[links.SYS] * n for _ in range(n)]
    ways = [[links.SYS] * n for _ in range(n)]
    for a, b in itertools.combinations(range(n), 2):
        link = matrix[a][b] = matrix[b][a] = draw(some_links)
        ways[a][b] = ways[b][a] = (
            draw(st.sampled_from([links.SYS, links.NODE, links.PXB]))
            if links.is_direct(link)
            else link
        )
    masks = draw(st.lists(st.integers(1, (1 << n) - 1), max_size=4))
    partitions = [
        FabricPartition(id_, mask.bit_count() + draw(st.integers(0, 2)), mask)
        for id_, mask in enumerate(masks)
    ]
    numa = draw(
        st.lists(st.sampled_from([None, 0, 0, 1]), min_size=n, max_size=n)
    )
    return Topology.from_matrix(matrix, partitions, numa, ways)


def named(host, knows_numa=True):
    return [
        (f"gpu{index}", mine, host.numa[index] if knows_numa else None)
        for index, mine in enumerate(groups.decompose(host))
    ]


@given(hosts())
def test_links_of_any_host_round_trip(host):
    assert groups.compose(named(host)) == host


@given(hosts())
def test_links_of_any_host_round_trip_without_numa_nodes(host):
    found = groups.compose(named(host, knows_numa=False))
    assert found.links == host.links
    assert found.ways == host.ways
    assert found.partitions == host.partitions


@given(hosts(), st.integers(0, 511))
def test_links_of_free_devices_are_those_of_the_whole_host(host, free):
    devices = [i for i in range(host.n) if free >> i & 1]
    described = named(host)
    found = groups.compose([described[i] for i in devices])
    assert found.links == tuple(
        tuple(host.links[a][b] for b in devices) for a in devices
    )
    assert found.ways == tuple(
        tuple(host.ways[a][b] for b in devices) for a in devices
    )


@pytest.mark.parametrize(
    ("machine", "texts"),
    [
        (machines.hgx_a100, [f"nv12:0,node:{i // 4}" for i in range(8)]),
        (
            machines.hgx_h100_pcie_switches,
            [f"nv18:0,pix:{i // 2},node:{i // 4}" for i in range(8)],
        ),
        (
            machines.hgx_h100_partitions,
            [
                "nv18:0,node:0,fabric:0/8,fabric:2/4,fabric:5/2,fabric:11/1",
                "nv18:0,node:0,fabric:0/8,fabric:2/4,fabric:5/2,fabric:13/1",
                "nv18:0,node:0,fabric:0/8,fabric:2/4,fabric:6/2,fabric:12/1",
                "nv18:0,node:0,fabric:0/8,fabric:2/4,fabric:6/2,fabric:14/1",
                "nv18:0,node:1,fabric:0/8,fabric:1/4,fabric:3/2,fabric:7/1",
                "nv18:0,node:1,fabric:0/8,fabric:1/4,fabric:3/2,fabric:9/1",
                "nv18:0,node:1,fabric:0/8,fabric:1/4,fabric:4/2,fabric:8/1",
                "nv18:0,node:1,fabric:0/8,fabric:1/4,fabric:4/2,fabric:10/1",
            ],
        ),
        (
            machines.one_bridge_pair,
            ["nv12:0,node:0", "nv12:0,node:0", "node:1", "node:1"],
        ),
        (
            machines.dgx1_v100,
            [
                "nv2:0,nv2:1,nv1:0,node:0",
                "nv2:2,nv2:3,nv1:0,node:0",
                "nv2:2,nv2:4,nv1:0,nv1:1,node:0",
                "nv2:0,nv2:4,nv1:0,nv1:2,node:0",
                "nv2:1,nv2:5,nv1:3,node:1",
                "nv2:3,nv2:6,nv1:3,node:1",
                "nv2:6,nv2:7,nv1:1,nv1:3,node:1",
                "nv2:5,nv2:7,nv1:2,nv1:3,node:1",
            ],
        ),
        (
            machines.pcie_pix_node_sys,
            [f"pix:{i // 2},node:{i // 4}" for i in range(8)],
        ),
    ],
)
def test_machines_are_described_in_few_words(machine, texts):
    assert [
        codec.format_text(mine) for mine in groups.decompose(machine())
    ] == texts


def test_groups_have_no_device_that_adds_nothing():
    """The pair 1, 4 also has 0 in common, but those pairs are told already."""
    host = machines.nested(
        7, ("PIX", [range(4), (0, 4, 5, 6), (1, 4)]), numa=(None,) * 7
    )
    texts = [codec.format_text(mine) for mine in groups.decompose(host)]
    assert texts == [
        *("pix:0,pix:1", "pix:0,pix:2", "pix:0", "pix:0"),
        *("pix:1,pix:2", "pix:1", "pix:1"),
    ]


def compose_pair(a, b, numa):
    return groups.compose(
        [
            (str(index), codec.parse_text(str(index), text), numa[index])
            if text
            else (str(index), codec.DeviceLinks(), numa[index])
            for index, text in enumerate((a, b))
        ]
    )


def pair(a, b, numa):
    return links.name(compose_pair(a, b, numa).links[0][1])


@pytest.mark.parametrize(
    ("a", "b", "numa", "link"),
    [
        ("pix:0,node:0", "pix:0,node:0", (None, None), "PIX"),
        ("nv2:1,nv1:0", "nv2:2,nv1:0", (0, 0), "NV1"),
        ("pix:0", "pix:1", (0, 0), "NODE"),
        ("pix:0", "pix:1", (0, 1), "SYS"),
        ("pix:0", "pix:1", (None, None), "SYS"),
        ("pix:0", "", (0, 0), "NODE"),
        ("", "", (0, 0), "NODE"),
        ("node:0", "", (0, 0), "NODE"),
        ("node:0", "node:1", (0, 0), "SYS"),
        ("node:0", "node:0", (0, 1), "NODE"),
        ("node:0", "pix:0", (0, 1), "SYS"),
    ],
)
def test_link_of_a_pair(a, b, numa, link):
    assert pair(a, b, numa) == link
    assert pair(b, a, numa[::-1]) == link


@pytest.mark.parametrize(
    ("a", "b", "numa", "way"),
    [
        # Without groups over PCIe, as tags were written at first.
        ("nv18:0", "nv18:0", (0, 0), "NODE"),
        ("nv18:0", "nv18:0", (0, 1), "SYS"),
        ("nv18:0", "nv18:0", (None, None), "SYS"),
        ("nv12:0,node:0", "nv12:0,node:0", (None, None), "NODE"),
        ("nv12:0,pix:1,node:0", "nv12:0,pix:1,node:0", (0, 0), "PIX"),
        ("nv18:0,node:0", "nv18:0,node:1", (None, None), "SYS"),
        ("nv18:0,node:0", "nv18:0,node:1", (0, 0), "SYS"),
    ],
)
def test_way_over_pcie_of_a_pair_with_a_direct_link(a, b, numa, way):
    host = compose_pair(a, b, numa)
    assert links.is_direct(host.links[0][1])
    assert links.name(host.ways[0][1]) == way


@pytest.mark.parametrize(
    ("texts", "token", "problem"),
    [
        (
            ["fabric:0/2", "fabric:0/4"],
            "fabric:0/4",
            "says that this partition has 2 devices",
        ),
        (
            ["fabric:7/1", "fabric:7/1"],
            "fabric:7/1",
            "more than 1 devices name it",
        ),
    ],
)
def test_devices_that_contradict_each_other_are_an_error(
    texts, token, problem
):
    with pytest.raises(codec.LinkTextError) as raised:
        groups.compose(
            [
                (f"gpu{i}", codec.parse_text(f"gpu{i}", text), None)
                for i, text in enumerate(texts)
            ]
        )
    assert str(raised.value).startswith("gpu1: ")
    assert token in str(raised.value)
    assert problem in str(raised.value)
