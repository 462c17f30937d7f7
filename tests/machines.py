# SPDX-License-Identifier: Apache-2.0

"""Topologies of machines by name, in the PCI order of their GPUs.

Sources: ``nvidia-smi topo -m`` of such machines, see
tests/unit/topology/test_real_machines.py, and NVIDIA's WP-12736-002 for the
fabric partitions of HGX H100.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import itertools

from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask

SOCKETS_4_4 = (0, 0, 0, 0, 1, 1, 1, 1)


def nested(
    n: int,
    *levels: tuple[str, Iterable[Iterable[int]]],
    numa: Sequence[int | None],
    partitions: Iterable[FabricPartition] = (),
) -> Topology:
    """Make a topology of sets of devices; later levels go over earlier."""
    matrix = [[links.SYS] * n for _ in range(n)]
    for name, sets in levels:
        for devices in sets:
            for a, b in itertools.combinations(devices, 2):
                matrix[a][b] = matrix[b][a] = links.parse(name)
    return Topology.from_matrix(matrix, partitions, numa)


def pairs(*devices: int) -> list[tuple[int, int]]:
    return list(zip(devices[::2], devices[1::2], strict=True))


def dgx1_v100() -> Topology:
    """Hybrid cube mesh: each GPU has 6 NVLinks to 4 of the 7 others."""
    return nested(
        8,
        ("NV1", pairs(0, 1, 0, 2, 1, 3, 2, 6, 3, 7, 4, 5, 4, 6, 5, 7)),
        ("NV2", pairs(0, 3, 0, 4, 1, 2, 1, 5, 2, 3, 4, 7, 5, 6, 6, 7)),
        numa=SOCKETS_4_4,
    )


def dgx2_v100() -> Topology:
    """16 GPUs on NVSwitches, all alike."""
    return nested(16, ("NV6", [range(16)]), numa=(0,) * 8 + (1,) * 8)


def hgx_a100(numa: Sequence[int] = SOCKETS_4_4) -> Topology:
    return nested(8, ("NV12", [range(8)]), numa=numa)


def hgx_a100_nps4() -> Topology:
    """Two EPYC with four NUMA nodes each; nvidia-smi's order."""
    return hgx_a100(numa=(3, 3, 1, 1, 7, 7, 5, 5))


def hgx_h100() -> Topology:
    return nested(8, ("NV18", [range(8)]), numa=SOCKETS_4_4)


def hgx_h100_pcie_switches() -> Topology:
    return on_pcie_switches(hgx_h100())


def on_pcie_switches(host: Topology) -> Topology:
    """Put two of 8 GPUs on each PCIe switch, two switches on each socket."""
    return Topology.from_matrix(
        host.links, host.partitions, host.numa, pcie_pix_node_sys().ways
    )


def hgx_h200() -> Topology:
    return hgx_h100()


H100_MODULES = (5, 7, 6, 8, 1, 3, 2, 4)
"""Module Id of each GPU in PCI order, of the machine in WP-12736-002."""

H100_PARTITIONS = (
    (1, 2, 3, 4, 5, 6, 7, 8),
    (1, 2, 3, 4),
    (5, 6, 7, 8),
    (1, 3),
    (2, 4),
    (5, 7),
    (6, 8),
    (1,),
    (2,),
    (3,),
    (4,),
    (5,),
    (6,),
    (7,),
    (8,),
)
"""Module Ids of each fabric partition, in the order of their ids."""


def hgx_h100_partitions(modules: Sequence[int] = H100_MODULES) -> Topology:
    """Shared NVSwitch: Fabric Manager activates whole partitions."""
    return nested(
        8,
        ("NV18", [range(8)]),
        numa=SOCKETS_4_4,
        partitions=[
            FabricPartition(
                id_, len(members), make_mask(map(modules.index, members))
            )
            for id_, members in enumerate(H100_PARTITIONS)
        ],
    )


def hgx_h200_partitions() -> Topology:
    """As H100, but on this machine the modules come in another order."""
    return hgx_h100_partitions(modules=(2, 4, 1, 3, 7, 5, 6, 8))


def redstone_a100() -> Topology:
    """4 GPUs with direct NVLinks, on one socket."""
    return nested(4, ("NV4", [range(4)]), numa=(0,) * 4)


def redstone_a100_nps4() -> Topology:
    return nested(4, ("NV4", [range(4)]), numa=(3, 2, 1, 0))


def bridge_pairs_h100_nvl() -> Topology:
    return nested(
        8,
        ("NODE", [range(4), range(4, 8)]),
        ("NV12", pairs(0, 1, 2, 3, 4, 5, 6, 7)),
        numa=SOCKETS_4_4,
    )


def bridge_pairs_out_of_order() -> Topology:
    """Bridges join slots that are not neighbors in PCI order."""
    return nested(
        8,
        ("NODE", [range(4), range(4, 8)]),
        ("NV12", pairs(0, 2, 1, 3, 4, 7, 5, 6)),
        numa=SOCKETS_4_4,
    )


def bridge_pairs_four_numa_nodes() -> Topology:
    return nested(4, ("NV12", pairs(0, 1, 2, 3)), numa=(0, 1, 2, 3))


def one_bridge_pair() -> Topology:
    """One bridged pair, the other two GPUs without a bridge."""
    return nested(
        4, ("NODE", pairs(2, 3)), ("NV12", pairs(0, 1)), numa=(0, 0, 1, 1)
    )


def pcie_pix_node_sys() -> Topology:
    return nested(
        8,
        ("NODE", [range(4), range(4, 8)]),
        ("PIX", pairs(0, 1, 2, 3, 4, 5, 6, 7)),
        numa=SOCKETS_4_4,
    )


def pcie_pix_pxb_sys() -> Topology:
    return nested(
        8,
        ("PXB", [range(4), range(4, 8)]),
        ("PIX", pairs(2, 3, 6, 7)),
        numa=SOCKETS_4_4,
    )


def pcie_pix_sys() -> Topology:
    return nested(8, ("PIX", [range(4), range(4, 8)]), numa=SOCKETS_4_4)


def pcie_node_sys() -> Topology:
    return nested(8, ("NODE", [range(4), range(4, 8)]), numa=SOCKETS_4_4)


def pcie_every_link() -> Topology:
    """PIX, PXB, PHB, NODE and SYS in one machine."""
    return nested(
        8,
        ("NODE", [range(5), range(5, 8)]),
        ("PHB", [range(4), (5, 6)]),
        ("PXB", [range(3)]),
        ("PIX", pairs(0, 1)),
        numa=(0, 0, 0, 0, 0, 1, 1, 1),
    )


def uneven_numa() -> Topology:
    """6 GPUs on one socket, 2 on the other."""
    return nested(
        8, ("NODE", [range(6), range(6, 8)]), numa=(0,) * 6 + (1,) * 2
    )


def pcie_16_switches() -> Topology:
    """16 GPUs, four to a PCIe switch, two switches to a socket."""
    return nested(
        16,
        ("NODE", [range(8), range(8, 16)]),
        ("PIX", [range(i, i + 4) for i in range(0, 16, 4)]),
        numa=(0,) * 8 + (1,) * 8,
    )


MACHINES_OF_8: tuple[Callable[[], Topology], ...] = (
    dgx1_v100,
    hgx_a100,
    hgx_h100_partitions,
    hgx_h100_pcie_switches,
    hgx_h200_partitions,
    redstone_a100,
    bridge_pairs_h100_nvl,
    bridge_pairs_out_of_order,
    one_bridge_pair,
    pcie_pix_node_sys,
    pcie_pix_pxb_sys,
    pcie_pix_sys,
    pcie_node_sys,
    pcie_every_link,
    uneven_numa,
)
"""Machines of up to 8 GPUs that differ in how their devices rank."""

MACHINES_OF_16: tuple[Callable[[], Topology], ...] = (
    dgx2_v100,
    pcie_16_switches,
)
