# SPDX-License-Identifier: Apache-2.0

"""Holds the matrix of ``nvidia-smi topo -m`` against sysfs."""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools

from nova_gpu_filter import exception
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

# A complete order of 16 GPUs is found in a few hundred, if there is one.
_MOST_STEPS = 20_000


def compare(
    host: Inventory,
    matrix: smi.TopoMatrix,
    gpus: Sequence[Function],
    is_sure: bool,
) -> list[str]:
    """Hold the PCIe links of nvidia-smi against sysfs.

    A virtual machine, its firmware or a driver can show them otherwise than
    they are, alike for all GPUs. So they speak against a file only if the
    GPUs in another order fit better, if it has no NUMA affinity by which to
    know the host, or if a network card is on another NUMA node.

    :param is_sure: ``nvidia-smi -q`` says which GPU has which index.
    :returns: what differs, as notes.
    :raises Malformed: the file is of another host, or in another order.
    """
    comparison = _Comparison(host, matrix, gpus)
    contradictions = comparison.describe_contradictions(range(len(gpus)))
    if contradictions and not is_sure:
        is_known = all(
            None not in (matrix.numa[index], gpu.numa_node)
            for index, gpu in enumerate(gpus)
        )
        if (
            not is_known
            or comparison.has_card_on_another_node()
            or comparison.has_better_order(len(contradictions))
        ):
            raise exception.Malformed(
                f"{contradictions[0]}: this file is of another host,"
                " or the GPUs were numbered in another order; give"
                " 'nvidia-smi -q' of the same time with --nvidia-smi-q"
            )
    return [f"{said}; sysfs is taken" for said in contradictions]


class _Comparison:
    """The PCIe links of a matrix beside those that sysfs shows."""

    def __init__(
        self,
        host: Inventory,
        matrix: smi.TopoMatrix,
        gpus: Sequence[Function],
    ) -> None:
        self._numa = matrix.numa
        self._gpus = gpus
        # Where all pairs of GPUs have NVLinks, only NICs show their places.
        by_name = {name: nic for nic in host.nics for name in nic.rdma_devices}
        nics = {
            column: by_name[name]
            for column, name in enumerate(matrix.nics, start=matrix.gpus)
            if name in by_name
        }
        self._others = (*gpus, *nics.values())
        columns = (*range(matrix.gpus), *nics)
        self._said = [
            [_keep_pcie(matrix.cells[row][column]) for column in columns]
            for row in range(matrix.gpus)
        ]

        def find_way(one: Function, other: Function) -> Link | None:
            link = pcie.find_way(one, other, host.numa_nodes)
            if link == links.SYS and None in (one.numa_node, other.numa_node):
                # Two root buses, and sysfs does not say on which nodes.
                return None
            return link

        self._ours = [
            [find_way(one, other) for other in self._others] for one in gpus
        ]

    def _find_difference(
        self, row: int, column: int, one: int, other: int
    ) -> tuple[Link, Link] | None:
        """Give what nvidia-smi and what sysfs says, if these exclude another.

        :param row: of the matrix; so is ``column``.
        :param one: device that is thought to be there; so is ``other``.
        """
        said, ours = self._said[row][column], self._ours[one][other]
        if said is None or ours is None or _describe(said) == _describe(ours):
            return None
        return said, ours

    def _list_pairs(self) -> Iterator[tuple[int, int]]:
        for row in range(len(self._gpus)):
            yield from ((row, column) for column in range(row))
            yield from (
                (row, column)
                for column in range(len(self._gpus), len(self._others))
            )

    def describe_contradictions(self, order: Sequence[int]) -> list[str]:
        """Give a sentence for each pair whose links differ.

        :param order: which of the GPUs has index 0, 1 and so on.
        """
        found = []
        for row, column in self._list_pairs():
            one = order[row]
            other = order[column] if column < len(order) else column
            difference = self._find_difference(row, column, one, other)
            if difference is not None:
                said, ours = difference
                found.append(
                    f"{self._others[other].address} and"
                    f" {self._others[one].address} are {links.name(said)}"
                    f" ({_describe(said)}), but {links.name(ours)} in sysfs"
                )
        return found

    def has_card_on_another_node(self) -> bool:
        """Whether a card that is beside a GPU is said to be on another node,
        or the other way round.
        """
        return any(
            (self._said[row][column] == links.SYS)
            != (self._ours[row][column] == links.SYS)
            for row, column in self._list_pairs()
            if column >= len(self._gpus)
            and None not in (self._said[row][column], self._ours[row][column])
        )

    def has_better_order(self, contradictions: int) -> bool:
        """Whether two GPUs exchanged, or some order, contradict sysfs less.

        :param contradictions: how many there are as it is.
        """
        order = range(len(self._gpus))
        for a, b in itertools.combinations(order, 2):
            exchanged = list(order)
            exchanged[a], exchanged[b] = b, a
            if (
                all(map(self._is_allowed, order, exchanged))
                and len(self.describe_contradictions(exchanged))
                < contradictions
            ):
                return True
        self._steps_left = _MOST_STEPS
        return self._can_complete([])

    def _is_allowed(self, row: int, gpu: int) -> bool:
        node = self._numa[row]
        ours = self._gpus[gpu].numa_node
        return None in (node, ours) or node == ours

    def _can_complete(self, order: list[int]) -> bool:
        """Whether an order that begins so contradicts sysfs nowhere."""
        row = len(order)
        if row == len(self._gpus):
            return True
        for gpu in range(len(self._gpus)):
            if gpu in order or not self._is_allowed(row, gpu):
                continue
            if not self._steps_left:
                return False
            self._steps_left -= 1
            placed = [*order, gpu]
            if any(
                self._find_difference(row, column, gpu, placed[column])
                for column in range(row)
            ) or any(
                self._find_difference(row, column, gpu, column)
                for column in range(len(self._gpus), len(self._others))
            ):
                continue
            if self._can_complete(placed):
                return True
        return False


def _keep_pcie(link: Link | None) -> Link | None:
    return None if link is None or link > links.PIX else link


def _describe(link: Link) -> str:
    """Say what a PCIe link tells about the places of two devices."""
    if link >= links.PXB:
        return "below one root port"
    return "on one NUMA node" if link >= links.NODE else "on two NUMA nodes"
