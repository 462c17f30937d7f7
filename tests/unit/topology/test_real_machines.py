# SPDX-License-Identifier: Apache-2.0

"""The machine builders agree with ``nvidia-smi topo -m`` of real machines.

See tests/topo_tables.py.
"""

import pytest

from nova_gpu_filter.topology import companions
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology
from tests import machines
from tests import smi_files
from tests import topo_tables

every_output = pytest.mark.parametrize("output", topo_tables.NAMES)


def read(output):
    """Return all devices' names, their links, and the GPUs' NUMA nodes."""
    lines = topo_tables.read(output).splitlines()
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


@every_output
def test_machine_is_as_the_real_one(output):
    names, matrix, numa = read(output)
    n = sum(name.startswith("GPU") for name in names)
    host = topo_tables.TABLES[output].machine()
    assert [row[:n] for row in matrix[:n]] == [list(row) for row in host.links]
    if numa is not None:
        assert numa == host.numa


@every_output
def test_links_with_nics_survive_as_groups(output):
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
    near = companions.Companions.from_topology(host, gpus, nics)

    def pairs(*taken):
        capacities = [int(nic in taken) for nic in range(len(nics))]
        return near.pair(0b1111, capacities, 4).pairs

    assert pairs(0, 1, 2, 3) == (4, 4, 4, 4)
    assert pairs(4, 5, 6, 7) == (0, 0, 0, 0)
    assert pairs(2, 3, 4, 5) == (2, 2, 2, 2)


def test_partitions_are_those_of_nvidias_guide():
    partitions, modules = smi_files.read_guide()
    assert tuple(partitions.values()) == machines.H100_PARTITIONS
    assert modules == machines.H100_MODULES


def test_modules_of_the_h200_are_those_of_the_real_one():
    modules = list(smi_files.read_module_ids().values())
    assert machines.hgx_h200_partitions() == machines.hgx_h100_partitions(
        modules
    )
