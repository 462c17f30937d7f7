# SPDX-License-Identifier: Apache-2.0

"""Boards whose NVLinks are known, for hosts that cannot be asked.

A profile is used only when the operator names it, and only if the host looks
like that board: ids, number, NUMA nodes, NVSwitches, PCIe switches. Fabric
partitions are not part of a profile, since the Module Ids of the GPUs differ
from board to board.

Each board has its source.
"""

import collections
from collections.abc import Callable
import dataclasses

from nova_gpu_filter import exception
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.topology import board_links
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_NVIDIA = 0x10DE

Pattern = Callable[[int, int], int]
"""NVLinks between two GPUs, by their places in PCI order; 0 for none."""


def _bond_all(bonded: int) -> Pattern:
    return lambda a, b: bonded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseboard:
    """What a host with this board must look like, and its NVLinks."""

    name: str
    """What operators type."""
    model: str
    products: frozenset[int]
    """Product ids of its GPUs."""
    gpus: int
    nvswitches: int = 0
    """How many the host must show."""
    pattern: Pattern
    per_numa_node: int | None = None
    """GPUs on each NUMA node that has GPUs; None: any number."""
    is_board: bool = True
    """Whether the links are there always; else they are bridges that a host
    with such GPUs may not have."""
    spans_hosts: bool = False
    """Whether NVLinks reach GPUs of other hosts, too."""
    manages_switches_by_nics: bool = False
    """Whether NVSwitches are no PCI devices: Fabric Manager reaches them by
    network cards of their own."""
    switch_pairs: bool = False
    """Whether GPUs 0 and 1, 2 and 3 ... share a PCIe switch: only then does
    the PCI order say which GPU is which."""
    source: str
    """Where the number of links of a pair is from."""

    def get_link(self, a: int, b: int) -> Link | None:
        """Give the NVLink of two GPUs by their places; None for none."""
        bonded = self.pattern(a, b)
        return links.make_nvlink(bonded) if bonded else None


_FABRIC_GUIDE = "NVIDIA's Fabric Manager User Guide"
_H200_NVL = (
    "NVIDIA's data sheet of H200 NVL: a bridge of four GPUs, of 18 NVLinks 6"
    " to each of the others"
)
_BOARDS = (
    Baseboard(
        name="dgx1-v100",
        model="DGX-1 with 8 V100-SXM2 (hybrid cube mesh)",
        products=frozenset({0x1DB1, 0x1DB5}),
        gpus=8,
        pattern=lambda a, b: board_links.DGX1_NVLINKS[a][b],
        per_numa_node=4,
        switch_pairs=True,
        source="NVIDIA, DGX-1 With Tesla V100 System Architecture"
        " (WP-08437): hybrid cube mesh; topology/board_links.py",
    ),
    Baseboard(
        name="dgx2-v100",
        model="DGX-2 or HGX-2 with 16 V100-SXM3",
        products=frozenset({0x1DB8}),
        gpus=16,
        nvswitches=12,
        pattern=_bond_all(6),
        source=f"{_FABRIC_GUIDE}: 12 NVSwitches, 6 NVLinks a GPU",
    ),
    Baseboard(
        name="hgx-a100-4",
        model="HGX A100 with 4 GPUs (Redstone), directly linked",
        products=frozenset({0x20B0, 0x20B2, 0x20B3}),
        gpus=4,
        pattern=_bond_all(4),
        source="NVIDIA's data sheet of HGX A100: 4 GPUs fully connected, of"
        " 12 NVLinks 4 to each of the others",
    ),
    Baseboard(
        name="hgx-a100-8",
        model="HGX A100 with 8 GPUs and 6 NVSwitches",
        products=frozenset({0x20B0, 0x20B2}),
        gpus=8,
        nvswitches=6,
        pattern=_bond_all(12),
        source=f"{_FABRIC_GUIDE}: 6 NVSwitches, 12 NVLinks a GPU",
    ),
    Baseboard(
        name="hgx-h100-8",
        model="HGX H100 with 8 GPUs and 4 NVSwitches",
        products=frozenset({0x2330}),
        gpus=8,
        nvswitches=4,
        pattern=_bond_all(18),
        source=f"{_FABRIC_GUIDE}: 4 NVSwitches, 18 NVLinks a GPU",
    ),
    Baseboard(
        name="hgx-h200-8",
        model="HGX H200 with 8 GPUs and 4 NVSwitches",
        products=frozenset({0x2335}),
        gpus=8,
        nvswitches=4,
        pattern=_bond_all(18),
        source=f"{_FABRIC_GUIDE}: 4 NVSwitches, 18 NVLinks a GPU",
    ),
    Baseboard(
        name="hgx-h100-4",
        model="HGX H100 with 4 GPUs, directly linked",
        products=frozenset({0x2330, 0x2339}),
        gpus=4,
        pattern=_bond_all(6),
        source="NVIDIA/nccl#1617: NV6 of each pair",
    ),
    Baseboard(
        name="h200-nvl-4",
        model="4 H200 NVL with a bridge of four",
        products=frozenset({0x233B}),
        gpus=4,
        pattern=_bond_all(6),
        is_board=False,
        source=_H200_NVL,
    ),
    Baseboard(
        name="h200-nvl-8",
        model="8 H200 NVL with a bridge of four on each NUMA node",
        products=frozenset({0x233B}),
        gpus=8,
        pattern=lambda a, b: 6 if a // 4 == b // 4 else 0,
        per_numa_node=4,
        is_board=False,
        source=_H200_NVL,
    ),
    Baseboard(
        name="hgx-b200-8",
        model="HGX B200 with 8 GPUs",
        products=frozenset({0x2901}),
        gpus=8,
        pattern=_bond_all(18),
        manages_switches_by_nics=True,
        source=f"{_FABRIC_GUIDE}, NVSwitch-Based Systems: the fourth"
        " NVSwitches, reached by ConnectX-7 only; 18 NVLinks a GPU",
    ),
    Baseboard(
        name="hgx-b300-8",
        model="HGX B300 with 8 GPUs",
        products=frozenset({0x3182}),
        gpus=8,
        pattern=_bond_all(18),
        manages_switches_by_nics=True,
        source=f"{_FABRIC_GUIDE}, NVSwitch-Based Systems: the fourth"
        " NVSwitches; 18 NVLinks a GPU",
    ),
    Baseboard(
        name="gb200-nvl-4",
        model="compute tray of GB200 NVL72 with 4 GPUs",
        products=frozenset({0x2941}),
        gpus=4,
        pattern=_bond_all(18),
        spans_hosts=True,
        source="NVIDIA/k8s-test-infra#371: NV18 of each pair of a tray",
    ),
    Baseboard(
        name="gb300-nvl-4",
        model="compute tray of GB300 NVL72 with 4 GPUs",
        products=frozenset({0x31C2}),
        gpus=4,
        pattern=_bond_all(18),
        spans_hosts=True,
        source="NVIDIA's data sheet of GB300 NVL72: 1.8 TB/s a GPU, as GB200",
    ),
)
BASEBOARDS = {board.name: board for board in _BOARDS}


def list_boards(gpu: Function) -> tuple[Baseboard, ...]:
    """List the boards that a GPU may be on."""
    if gpu.vendor_id != _NVIDIA:
        return ()
    return tuple(
        board for board in _BOARDS if gpu.product_id in board.products
    )


def list_behind_nics(host: Inventory) -> list[Function]:
    """List the GPUs whose NVSwitches, if any, network cards manage."""
    return [
        gpu
        for gpu in host.gpus
        if any(board.manages_switches_by_nics for board in list_boards(gpu))
    ]


def list_fitting(host: Inventory) -> tuple[Baseboard, ...]:
    """List the boards that a host looks like."""
    return tuple(
        board
        for board in _BOARDS
        if _find_difference(board, host, _list_gpus(board, host)) is None
    )


def find(name: str, host: Inventory) -> tuple[Baseboard, tuple[Function, ...]]:
    """Give the board of that name, and the GPUs of a host on it in PCI order.

    :raises Malformed: there is none, or the host does not look so; the
        message says in what.
    """
    if name not in BASEBOARDS:
        known = ", ".join(sorted(BASEBOARDS))
        raise exception.Malformed(f"not known; known are {known}")
    board = BASEBOARDS[name]
    gpus = _list_gpus(board, host)
    difference = _find_difference(board, host, gpus)
    if difference is not None:
        raise exception.Malformed(
            f"{host.hostname} is not {board.model}: {difference}"
        )
    return board, gpus


def _list_gpus(board: Baseboard, host: Inventory) -> tuple[Function, ...]:
    return tuple(gpu for gpu in host.gpus if board in list_boards(gpu))


def _find_difference(
    board: Baseboard, host: Inventory, gpus: tuple[Function, ...]
) -> str | None:
    """Say in what a host with these GPUs does not look like a board."""
    if len(gpus) != board.gpus:
        ids = " or ".join(f"10de:{id_:04x}" for id_ in sorted(board.products))
        return f"{len(gpus)} GPUs {ids}, not {board.gpus}"
    switches = len(host.nvswitches)
    if switches != board.nvswitches:
        return f"{switches} NVSwitches, not {board.nvswitches}"
    if board.per_numa_node is not None:
        nodes = collections.Counter(gpu.numa_node for gpu in gpus)
        for node in sorted(nodes, key=str):
            if node is None or nodes[node] != board.per_numa_node:
                return (
                    f"{nodes[node]} GPUs on NUMA node"
                    f" {'unknown' if node is None else node}, not"
                    f" {board.per_numa_node}"
                )
    if board.switch_pairs:
        for first, second in zip(gpus[::2], gpus[1::2], strict=True):
            if pcie.find_way(first, second, host.numa_nodes) != links.PIX:
                return (
                    f"{first.address} and {second.address} do not share a"
                    " PCIe switch"
                )
    return None
