# SPDX-License-Identifier: Apache-2.0

"""Hosts of an inventory, and which sets of their GPUs are good ones."""

import pytest

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import machine_kinds
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy
from tests import machines as described


def _kind(machine):
    return hosts_file.read([{"machine": machine}], "test")[0].kind


@pytest.mark.parametrize("name", sorted(machine_kinds.MACHINES))
def test_the_tags_of_a_machine_describe_the_machine(name):
    assert _kind(name).topology == machine_kinds.MACHINES[name]()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hgx-h100-fabric", described.hgx_h100_partitions),
        ("hgx-h100", described.hgx_h100),
        ("hgx-a100", described.hgx_a100),
        ("hgx-a100-4", described.redstone_a100),
        ("dgx1-v100", described.dgx1_v100),
        ("dgx2-v100", described.dgx2_v100),
        ("bridge-pairs", described.bridge_pairs_h100_nvl),
        ("pcie-switch-pairs", described.pcie_pix_node_sys),
        ("pcie-8", described.pcie_node_sys),
    ],
)
def test_machines_are_those_of_real_topologies(name, expected):
    assert machine_kinds.MACHINES[name]() == expected()


def test_a_count_makes_as_many_hosts_of_one_kind():
    specs = hosts_file.read(
        [
            {"machine": "hgx-h100", "model": "H100", "count": 2, "used": [3]},
            {"name": "old", "model": "K2", "gpus": 2},
        ],
        "test",
    )
    assert [(s.name, s.kind.gpus, s.used) for s in specs] == [
        ("hgx-h100-0", 8, 0b1000),
        ("hgx-h100-1", 8, 0b1000),
        ("old", 2, 0),
    ]
    assert specs[0].kind is specs[1].kind
    assert specs[2].kind.model == "K2"


def test_tags_of_a_row_are_those_of_its_gpus():
    (spec,) = hosts_file.read(
        [
            {
                "name": "a",
                "gpu_links": ["nv4:0", "nv4:0", ""],
                "numa": [0, 0, 1],
            }
        ],
        "test",
    )
    assert spec.kind.links == ("nv4:0", "nv4:0", None)
    assert spec.kind.numa == (0, 0, 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "give machine, gpu_links or gpus"),
        ({"machine": "hgx-9000"}, "'hgx-9000' is not known; known are bri"),
        ({"machine": "hgx-h100", "gpus": 4}, "gpus is 4, but hgx-h100 has 8"),
        ({"gpu_links": ["warp:0"]}, "GPU 0 of gpu-1: gpu_links 'warp:0'"),
        ({"gpu_links": ["nv4:0"], "numa": [0, 1]}, "1 gpu_links, but 2 numa"),
        ({"gpus": 0}, "no GPUs"),
        ({"gpus": "two"}, "gpus: 'two' is not a whole number"),
        ({"gpus": 2.5}, "gpus: 2.5 is not a whole number"),
        ({"gpus": 2, "count": "x"}, "count: 'x' is not a whole number"),
        ({"gpus": 2, "used": ["x"]}, "used: 'x' is not a whole number"),
        ({"gpus": 2, "used": [2]}, "used: there are only 2 GPUs"),
        ({"gpus": 2, "count": 0}, "count: must be 1 or more"),
        ({"gpus": 2, "color": "red"}, "unknown color; known are count, gpu"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(row, words):
    with pytest.raises(errors.BadScenario) as bad:
        hosts_file.read([{"gpus": 1}, row], "hosts.yaml")
    assert str(bad.value).startswith("hosts.yaml, host 2: ")
    assert words in str(bad.value)


def test_two_hosts_of_one_name_are_refused():
    with pytest.raises(errors.BadScenario, match="the same name"):
        hosts_file.read([{"name": "a", "gpus": 1}] * 2, "test")


def test_a_csv_may_name_its_columns_otherwise(tmp_path):
    path = tmp_path / "hosts.csv"
    path.write_text("sn,cards,kind,price\nn0,8,V100,9\nn1,2,T4,\nn2,1,T4,1\n")
    rows = hosts_file.read_csv(
        str(path), {"name": "sn", "gpus": "cards", "model": "kind"}
    )
    specs = hosts_file.read(
        rows, "test", {}, {"V100/8": "dgx1-v100", "T4/2": "pcie-2"}
    )
    assert [(s.name, s.kind.name, s.kind.gpus) for s in specs] == [
        ("n0", "dgx1-v100", 8),
        ("n1", "pcie-2", 2),
        ("n2", "T4-1", 1),
    ]


def test_lists_in_a_csv_are_separated_by_semicolons(tmp_path):
    path = tmp_path / "hosts.csv"
    path.write_text("name,gpu_links,numa,used\na,pix:0;pix:0,0;1,1\n")
    (spec,) = hosts_file.read(hosts_file.read_csv(str(path), {}), "test")
    assert (spec.kind.links, spec.kind.numa) == (("pix:0", "pix:0"), (0, 1))
    assert spec.used == 0b10


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "hosts.csv"
    path.write_text("name,gpus\na,1\n")
    with pytest.raises(errors.BadScenario, match="no column 'sn'; columns"):
        hosts_file.read_csv(str(path), {"name": "sn"})


NVLINK = LinkPolicy(Requirement.NVLINK)
FABRIC = LinkPolicy(Requirement.FABRIC)
NODE = LinkPolicy(Requirement.NODE)


@pytest.mark.parametrize(
    ("machine", "gpus", "link", "good"),
    [
        # Where there are partitions, nothing else can be activated.
        ("hgx-h100-fabric", (0, 1), FABRIC, True),
        ("hgx-h100-fabric", (1, 2), FABRIC, False),
        ("hgx-h100-fabric", (1, 2), None, False),
        ("hgx-h100-fabric", (1, 2), NVLINK, False),
        ("hgx-h100-fabric", (0, 1, 2, 3), None, True),
        ("hgx-h100-fabric", (2, 3, 4, 5), None, False),
        # Without, the flavor says what is good, or else the empty host.
        ("bridge-pairs", (2, 3), NVLINK, True),
        ("bridge-pairs", (1, 2), NVLINK, False),
        ("bridge-pairs", (1, 2), NODE, True),
        ("bridge-pairs", (2, 3), None, True),
        ("bridge-pairs", (1, 2), None, False),
        ("bridge-pairs", (0, 1, 2, 3), None, True),
        ("bridge-pairs", (0, 1, 4, 5), None, False),
        ("hgx-h100", (1, 2, 6), None, True),
        ("hgx-h100", (1, 2), FABRIC, False),
        ("pcie-2", (0, 1), None, True),
    ],
)
def test_a_good_set_is_one_whose_gpus_can_work_together(
    machine, gpus, link, good
):
    mask = sum(1 << gpu for gpu in gpus)
    assert _kind(machine).satisfies(mask, link) is good
