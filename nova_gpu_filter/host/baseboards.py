# SPDX-License-Identifier: Apache-2.0

"""Boards whose NVLinks are known, for hosts that cannot be asked.

A profile is used only when the operator names it, and only if the host looks
like that board: ids, number, NUMA nodes, NVSwitches, PCIe switches. Fabric
partitions are not part of a profile, since the Module Ids of the GPUs differ
from board to board.

Sources: NVIDIA's Fabric Manager User Guide for the boards with NVSwitches;
``nvidia-smi topo -m`` of such machines for the number of links of a pair.
"""

from collections.abc import Callable
import dataclasses

from nova_gpu_filter.host import errors
from nova_gpu_filter.host import pcie
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_NVIDIA = 0x10DE

Pattern = Callable[[int, int], int]
"""NVLinks between two GPUs, by their places in PCI order; 0 for none."""


def _all(bonded: int) -> Pattern:
    return lambda a, b: bonded


# DGX-1: two quads, each fully meshed, and one link from each GPU to its
# counterpart. Rows and columns are GPU0 to GPU7.
_DGX1_MESH = (
    (0, 1, 1, 2, 2, 0, 0, 0),
    (1, 0, 2, 1, 0, 2, 0, 0),
    (1, 2, 0, 2, 0, 0, 1, 0),
    (2, 1, 2, 0, 0, 0, 0, 1),
    (2, 0, 0, 0, 0, 1, 1, 2),
    (0, 2, 0, 0, 1, 0, 2, 1),
    (0, 0, 1, 0, 1, 2, 0, 2),
    (0, 0, 0, 1, 2, 1, 2, 0),
)


@dataclasses.dataclass(frozen=True)
class Baseboard:
    """What a host with this board must look like, and its NVLinks."""

    name: str
    """What operators type."""
    model: str
    products: frozenset[int]
    """Product ids of its GPUs."""
    gpus: int
    nvswitches: int | None
    """How many the host must show; None: it may show none or some."""
    pattern: Pattern
    per_numa_node: int | None = None
    """GPUs on each NUMA node that has GPUs; None: any number."""
    switch_pairs: bool = False
    """Whether GPUs 0 and 1, 2 and 3 ... share a PCIe switch: only then does
    the PCI order say which GPU is which."""

    def link(self, a: int, b: int) -> Link | None:
        """Give the NVLink of two GPUs by their places; None for none."""
        bonded = self.pattern(a, b)
        return links.nvlink(bonded) if bonded else None


BASEBOARDS = {
    board.name: board
    for board in (
        Baseboard(
            name="dgx1-v100",
            model="DGX-1 with 8 V100-SXM2 (hybrid cube mesh)",
            products=frozenset({0x1DB1, 0x1DB5}),
            gpus=8,
            nvswitches=0,
            pattern=lambda a, b: _DGX1_MESH[a][b],
            per_numa_node=4,
            switch_pairs=True,
        ),
        Baseboard(
            name="dgx2-v100",
            model="DGX-2 or HGX-2 with 16 V100-SXM3",
            products=frozenset({0x1DB8}),
            gpus=16,
            nvswitches=12,
            pattern=_all(6),
        ),
        Baseboard(
            name="hgx-a100-4",
            model="HGX A100 with 4 GPUs (Redstone), directly linked",
            products=frozenset({0x20B0, 0x20B2, 0x20B3}),
            gpus=4,
            nvswitches=0,
            pattern=_all(4),
        ),
        Baseboard(
            name="hgx-a100-8",
            model="HGX A100 with 8 GPUs and 6 NVSwitches",
            products=frozenset({0x20B0, 0x20B2}),
            gpus=8,
            nvswitches=6,
            pattern=_all(12),
        ),
        Baseboard(
            name="hgx-h100-8",
            model="HGX H100 with 8 GPUs and 4 NVSwitches",
            products=frozenset({0x2330}),
            gpus=8,
            nvswitches=4,
            pattern=_all(18),
        ),
        Baseboard(
            name="hgx-h200-8",
            model="HGX H200 with 8 GPUs and 4 NVSwitches",
            products=frozenset({0x2335}),
            gpus=8,
            nvswitches=4,
            pattern=_all(18),
        ),
    )
}


def find(name: str) -> Baseboard:
    """Give the profile of that name.

    :raises BadInput: there is none.
    """
    try:
        return BASEBOARDS[name]
    except KeyError:
        raise errors.BadInput(
            source=f"baseboard '{name}'",
            reason=f"not known; known are {', '.join(sorted(BASEBOARDS))}",
        ) from None


def check(board: Baseboard, host: Inventory) -> tuple[Function, ...]:
    """Make sure that a host has this board.

    :returns: the GPUs of the board, in PCI order.
    :raises BadInput: it does not look so; the message says in what.
    """
    gpus = tuple(
        gpu
        for gpu in host.gpus
        if gpu.vendor_id == _NVIDIA and gpu.product_id in board.products
    )

    def refuse(reason: str) -> errors.BadInput:
        return errors.BadInput(
            source=f"baseboard '{board.name}'",
            reason=f"{host.hostname} is not {board.model}: {reason}",
        )

    ids = " or ".join(f"10de:{id_:04x}" for id_ in sorted(board.products))
    if len(gpus) != board.gpus:
        raise refuse(f"{len(gpus)} GPUs {ids}, not {board.gpus}")
    switches = len(host.nvswitches)
    if board.nvswitches is not None and switches != board.nvswitches:
        raise refuse(f"{switches} NVSwitches, not {board.nvswitches}")
    if board.per_numa_node is not None:
        nodes = [gpu.numa_node for gpu in gpus]
        for node in sorted(set(nodes), key=str):
            if node is None or nodes.count(node) != board.per_numa_node:
                raise refuse(
                    f"{nodes.count(node)} GPUs on NUMA node"
                    f" {'unknown' if node is None else node}, not"
                    f" {board.per_numa_node}"
                )
    if board.switch_pairs:
        for first, second in zip(gpus[::2], gpus[1::2], strict=True):
            link = pcie.relation(first, second, host.numa_nodes)
            if link != links.PIX:
                raise refuse(
                    f"{first.address} and {second.address} do not share a"
                    " PCIe switch"
                )
    return gpus
