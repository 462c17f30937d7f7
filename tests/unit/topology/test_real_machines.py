# SPDX-License-Identifier: Apache-2.0

"""The machine builders agree with ``nvidia-smi topo -m`` of real machines.

The outputs lie beside the repository, since they are not ours to publish.
"""

import json
import pathlib

import pytest

from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology
from tests import machines

DATA = pathlib.Path(__file__).parents[4] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the outputs of real machines are not in {DATA}"
)

MACHINES = {
    "a100_nc96ads_v4_4x_bridge_pairs": machines.bridge_pairs_four_numa_nodes,
    "a100_pcie_4x_one_bridge_pair": machines.one_bridge_pair,
    "a100_redstone_4x_leonardo": machines.redstone_a100,
    "a100_redstone_4x_perlmutter": machines.redstone_a100_nps4,
    "dgx1_v100_8x": machines.dgx1_v100,
    "h100_nvl_pcie_8x_bridge_pairs": machines.bridge_pairs_h100_nvl,
    "hgx_a100_8x_epyc_nps4": machines.hgx_a100_nps4,
    "hgx_a100_8x_p4d": machines.hgx_a100,
    "hgx_h100_8x_13nic": machines.hgx_h100,
    "hgx_h200_8x": machines.hgx_h200,
    "pcie_8x_pix_node_sys": machines.pcie_pix_node_sys,
    "pcie_8x_pix_sys_2nic": machines.pcie_pix_sys,
    "rtx4090_pcie_8x_node_sys": machines.pcie_node_sys,
    "rtx_a5000_pcie_8x": machines.pcie_pix_pxb_sys,
}

every_output = pytest.mark.parametrize(
    ("output", "machine"), MACHINES.items(), ids=list(MACHINES)
)


def read(output):
    """Return all devices' names, their links, and the GPUs' NUMA nodes."""
    lines = (DATA / "smi" / f"{output}.txt").read_text().splitlines()
    header, *rows = (line.split() for line in lines)
    names = [name for name in header if name.startswith(("GPU", "NIC", "mlx"))]
    names = names[: names.index("GPU") if "GPU" in names else None]
    rows = [row for row in rows if row and row[0] in names]
    matrix = [
        [links.parse(name) for name in row[1 : len(rows) + 1]] for row in rows
    ]
    numa = None
    if "NUMA" in header:
        numa = tuple(
            int(row[len(rows) + 2]) for row in rows if row[0].startswith("GPU")
        )
    return [row[0] for row in rows], matrix, numa


def test_every_output_has_a_machine():
    found = {path.stem for path in (DATA / "smi").glob("*.txt")}
    assert found - {"SOURCES", "hgx_h200_8x.module_ids"} == set(MACHINES)


@every_output
def test_machine_is_as_the_real_one(output, machine):
    names, matrix, numa = read(output)
    n = sum(name.startswith("GPU") for name in names)
    host = machine()
    assert [row[:n] for row in matrix[:n]] == [list(row) for row in host.links]
    if numa is not None:
        assert numa == host.numa


@every_output
def test_links_with_nics_survive_as_groups(output, machine):
    _, matrix, _ = read(output)
    host = Topology.from_matrix(matrix)
    described = [
        (str(index), mine, None)
        for index, mine in enumerate(groups.decompose(host))
    ]
    assert groups.compose(described) == host


def test_four_h200_have_four_nics_on_their_switches():
    names, matrix, _ = read("hgx_h200_8x")
    host = Topology.from_matrix(matrix)
    gpus = [i for i, name in enumerate(names) if name.startswith("GPU")]
    nics = [i for i, name in enumerate(names) if name.startswith("NIC")]
    near = companions.Companions.of(host, gpus, nics)

    def pairs(*taken):
        capacities = [int(nic in taken) for nic in range(len(nics))]
        return near.pair(0b1111, capacities, 4).pairs

    assert pairs(0, 1, 2, 3) == (4, 4, 4, 4)
    assert pairs(4, 5, 6, 7) == (0, 0, 0, 0)
    assert pairs(2, 3, 4, 5) == (2, 2, 2, 2)


def test_partitions_are_those_of_nvidias_guide():
    guide = json.loads((DATA / "fabric_partitions_hgx_h100.json").read_text())
    assert (
        tuple(tuple(partition["modules"]) for partition in guide["partitions"])
        == machines.H100_PARTITIONS
    )
    modules = [m for _, m in sorted(guide["module_by_pci_wp"].items())]
    assert tuple(modules) == machines.H100_MODULES


def test_modules_of_the_h200_are_those_of_the_real_one():
    text = (DATA / "smi" / "hgx_h200_8x.module_ids.txt").read_text()
    rows = [line.split() for line in text.splitlines()]
    modules = [int(row[2]) for row in rows if row[0].isdigit()]
    assert machines.hgx_h200_partitions() == machines.hgx_h100_partitions(
        modules
    )
