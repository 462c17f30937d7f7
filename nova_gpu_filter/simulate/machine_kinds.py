# SPDX-License-Identifier: Apache-2.0

"""Kinds of machine by name, so that an inventory need not list every link.

Sources: NVIDIA's WP-12736-002 for the fabric partitions of HGX H100; ``nvidia
-smi topo -m`` of such machines for the links.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import itertools
from typing import Final

from nova_gpu_filter.topology import board_links
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask

_TWO_SOCKETS: Final = (0, 0, 0, 0, 1, 1, 1, 1)

_Level = tuple[str, Iterable[Iterable[int]]]
"""A link, and the sets of devices in which each pair has it."""


def _describe_machine(
    numa: Sequence[int],
    *levels: _Level,
    partitions: Sequence[Sequence[int]] = (),
) -> Topology:
    """Describe a machine; later levels go over earlier ones.

    :param numa: NUMA node of each device.
    :param partitions: devices of each fabric partition, in order of ids.
    """
    n = len(numa)
    matrix = [[links.SYS] * n for _ in range(n)]
    for name, sets in levels:
        for devices in sets:
            for a, b in itertools.combinations(devices, 2):
                matrix[a][b] = matrix[b][a] = links.parse(name)
    return Topology.from_matrix(
        matrix,
        [
            FabricPartition(id_, len(devices), make_mask(devices))
            for id_, devices in enumerate(partitions)
        ],
        numa,
    )


_SOCKETS: Final = ("NODE", [range(4), range(4, 8)])
_PAIRS: Final = [(0, 1), (2, 3), (4, 5), (6, 7)]

# On the machine of the white paper, in PCI order, the GPUs have the Module
# Ids 5, 7, 6, 8, 1, 3, 2, 4.
_HGX_PARTITIONS: Final = (
    range(8),
    range(4, 8),
    range(4),
    (4, 5),
    (6, 7),
    (0, 1),
    (2, 3),
    *((device,) for device in (4, 6, 5, 7, 0, 2, 1, 3)),
)


def _list_dgx1_pairs(nvlinks: int) -> list[tuple[int, int]]:
    """List the pairs of a DGX-1 that have so many NVLinks."""
    return [
        (a, b)
        for a, b in itertools.combinations(range(8), 2)
        if board_links.DGX1_NVLINKS[a][b] == nvlinks
    ]


MACHINES: Final[dict[str, Callable[[], Topology]]] = {
    "hgx-h100-fabric": lambda: _describe_machine(
        _TWO_SOCKETS, ("NV18", [range(8)]), partitions=_HGX_PARTITIONS
    ),
    "hgx-h100": lambda: _describe_machine(_TWO_SOCKETS, ("NV18", [range(8)])),
    "hgx-a100": lambda: _describe_machine(_TWO_SOCKETS, ("NV12", [range(8)])),
    "hgx-a100-4": lambda: _describe_machine((0,) * 4, ("NV4", [range(4)])),
    "dgx1-v100": lambda: _describe_machine(
        _TWO_SOCKETS,
        ("NV1", _list_dgx1_pairs(1)),
        ("NV2", _list_dgx1_pairs(2)),
    ),
    "dgx2-v100": lambda: _describe_machine(
        (0,) * 8 + (1,) * 8, ("NV6", [range(16)])
    ),
    "v100-4": lambda: _describe_machine((0,) * 4, ("NV2", [range(4)])),
    "bridge-pairs": lambda: _describe_machine(
        _TWO_SOCKETS, _SOCKETS, ("NV12", _PAIRS)
    ),
    "pcie-switch-pairs": lambda: _describe_machine(
        _TWO_SOCKETS, _SOCKETS, ("PIX", _PAIRS)
    ),
    "pcie-8": lambda: _describe_machine(_TWO_SOCKETS, _SOCKETS),
    "pcie-4": lambda: _describe_machine(
        (0, 0, 1, 1), ("NODE", [(0, 1), (2, 3)])
    ),
    "pcie-2": lambda: _describe_machine((0, 1)),
    "pcie-1": lambda: _describe_machine((0,)),
}
"""What ``machine`` of an inventory may name."""
