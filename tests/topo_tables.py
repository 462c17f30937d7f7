# SPDX-License-Identifier: Apache-2.0

"""What ``nvidia-smi topo -m`` prints on machines that are known.

A machine is described by the links of its GPUs (tests/machines.py) and by the
place of each device in its PCIe tree, from which the other links follow as
nvidia-smi's legend says. Where outputs of the real machines lie beside the
repository they are read instead: they are not ours to publish.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import Topology
from tests import machines
from tests import smi_files

Place = tuple[object, object, object, object]
"""NUMA node, host bridge, PCIe switches below one root port, PCIe switch."""

_BY_COMMON = ("SYS", "NODE", "PHB", "PXB", "PIX")
"""The link of two devices, by how much of their places is the same."""


@dataclasses.dataclass(frozen=True)
class Table:
    """One machine."""

    machine: Callable[[], Topology]
    gpus: Sequence[Place] = ()
    """Needed only beside NICs."""
    nics: Sequence[Place] = ()
    nic_name: str = "NIC"
    legend: Sequence[str] = ()
    """What the NICs are called, where the columns do not say it."""
    has_numa_column: bool = True


def _same(count: int, numa: int, name: str) -> list[Place]:
    """Put devices on one PCIe switch of their own."""
    return [(numa, name, name, name)] * count


_APART = [(i // 4, i, i, i) for i in range(8)]
"""Each GPU on a host bridge of its own."""

TABLES = {
    "a100_nc96ads_v4_4x_bridge_pairs": Table(
        machines.bridge_pairs_four_numa_nodes
    ),
    "a100_pcie_4x_one_bridge_pair": Table(
        machines.one_bridge_pair,
        [(i // 2, i, i, i) for i in range(4)],
        _same(2, 0, "nic"),
        "mlx5_",
    ),
    "a100_redstone_4x_leonardo": Table(
        machines.redstone_a100,
        [(0, i, i, f"gpu{i}") for i in range(4)],
        [(0, i, i, f"nic{i}") for i in range(4)],
        legend=[f"mlx5_{i}" for i in range(4)],
    ),
    "a100_redstone_4x_perlmutter": Table(machines.redstone_a100_nps4),
    "dgx1_v100_8x": Table(
        machines.dgx1_v100,
        [(i // 4, i // 4, i // 2, i // 2) for i in range(8)],
        [(i // 2, i // 2, i, i) for i in range(4)],
        "mlx5_",
        has_numa_column=False,
    ),
    "h100_nvl_pcie_8x_bridge_pairs": Table(
        machines.bridge_pairs_h100_nvl,
        [(0, "nic", 1, 1) if i == 1 else _APART[i] for i in range(8)],
        _same(2, 0, "nic"),
        legend=["mlx5_0", "mlx5_1"],
    ),
    "hgx_a100_8x_epyc_nps4": Table(
        machines.hgx_a100_nps4,
        [((3, 1, 7, 5)[i // 2], i // 2, i // 2, i) for i in range(8)],
        [(1, 1, 1, "nic")],
        "mlx5_",
    ),
    "hgx_a100_8x_p4d": Table(machines.hgx_a100),
    "hgx_h100_8x_13nic": Table(
        machines.hgx_h100,
        [(i // 4, i // 2, i // 2, i) for i in range(8)],
        [
            *[(i // 4, i // 2, i // 2, i) for i in range(8)],
            *_same(5, 1, "ethernet"),
        ],
        legend=[
            *[f"mlx5_ib{i}" for i in range(8)],
            *[f"mlx5_eth{i}" for i in range(5)],
        ],
    ),
    "hgx_h200_8x": Table(machines.hgx_h200, _APART, _APART),
    "pcie_8x_pix_node_sys": Table(machines.pcie_pix_node_sys),
    "pcie_8x_pix_sys_2nic": Table(
        machines.pcie_pix_sys,
        [(i // 4,) * 4 for i in range(8)],
        [(0,) * 4] * 2,
    ),
    "rtx4090_pcie_8x_node_sys": Table(machines.pcie_node_sys),
    "rtx_a5000_pcie_8x": Table(
        machines.pcie_pix_pxb_sys, _APART, _same(2, 0, "nic"), "mlx5_"
    ),
}
"""By the name of the file that has the output of the real machine."""

NAMES = tuple(TABLES)


def read(name: str) -> str:
    """Read the output of a real machine; without it, print the table."""
    path = smi_files.SMI / f"{name}.txt"
    return path.read_text() if path.exists() else write(TABLES[name])


def write(table: Table) -> str:
    """Print what nvidia-smi would."""
    host = table.machine()
    gpus = [f"GPU{index}" for index in range(host.n)]
    nics = [f"{table.nic_name}{index}" for index in range(len(table.nics))]
    places = [*table.gpus, *table.nics]
    tail = ["CPU Affinity"]
    if table.has_numa_column:
        tail.append("NUMA Affinity")
    lines = ["\t".join(["", *gpus, *nics, *tail])]
    for row, name in enumerate([*gpus, *nics]):
        cells = [
            _cell(host, places, row, column)
            for column in range(len(gpus) + len(nics))
        ]
        if row < len(gpus):
            cells.append("0-63")
            if table.has_numa_column:
                cells.append(str(host.numa[row]))
        lines.append("\t".join([name, *cells]))
    lines += ["", "Legend:", "", "  X    = Self"]
    if table.legend:
        lines += ["", "NIC Legend:", ""]
        lines += [
            f"  {nic}: {name}"
            for nic, name in zip(nics, table.legend, strict=True)
        ]
    return "\n".join(lines) + "\n"


def _cell(
    host: Topology, places: Sequence[Place], row: int, column: int
) -> str:
    if row == column:
        return " X "
    if max(row, column) < host.n:
        return links.name(host.links[row][column])
    common = 0
    for one, other in zip(places[row], places[column], strict=True):
        if one != other:
            break
        common += 1
    return _BY_COMMON[common]
