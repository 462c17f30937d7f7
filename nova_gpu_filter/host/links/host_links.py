# SPDX-License-Identifier: Apache-2.0

"""The links between the devices of a host, as plain data."""

from collections.abc import Sequence
import dataclasses
import functools

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import make_mask

_WITHOUT_NVLINK = {
    **dict.fromkeys(
        ("Tesla", "Fermi", "Kepler", "Maxwell"),
        "NVIDIA's white paper Tesla P100 (WP-08019): NVLink came with Pascal",
    ),
    **dict.fromkeys(
        ("GP102", "GP104", "GP106", "GP107", "GP108"),
        "of Pascal only cards of GP100 have it"
        " (https://www.extremetech.com/computing/243975;"
        " https://www.pugetsystems.com/labs/articles/1253)",
    ),
    **dict.fromkeys(
        ("TU106", "TU116", "TU117"),
        "NVIDIA's open kernel modules enable it on TU102 and TU104"
        " (PDB_PROP_KNVLINK_ENABLED in g_kernel_nvlink_nvoc.c)",
    ),
    **dict.fromkeys(
        ("GA103", "GA104", "GA106", "GA107"),
        "NVIDIA's white paper Ampere GA102 has it of GA102, and the product"
        " brief of the A16 (PB-10518) has none"
        " (https://www.pugetsystems.com/labs/articles/2074)",
    ),
    "Ada": "NVIDIA, September 2022: Ada has no NVLink"
    " (https://www.tweaktown.com/news/88605)",
    "GB202": "RTX PRO 6000 Blackwell has none"
    " (https://github.com/voipmonitor/rtx6kpro)",
}
"""Architectures and chips, and the source. Chips of which none was found, such
as GB203, may have NVLinks: a note asks for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """A fabric partition of this host."""

    id: int
    addresses: tuple[PciAddress, ...]
    """Its GPUs, in address order."""
    module_ids: tuple[int, ...]
    is_active: bool = False


@dataclasses.dataclass(frozen=True)
class HostLinks(printable.OneLineTexts):
    """The links between the devices of a host."""

    devices: tuple[Function, ...]
    """GPUs, NVSwitches and NICs, no VFs, in address order."""
    matrix: tuple[tuple[Link | None, ...], ...]
    """The best link known of each pair; None where not even the way over
    PCIe is."""
    ways: tuple[tuple[Link | None, ...], ...]
    """The way over PCIe of each pair, which also those with NVLinks have."""
    nvlink_known: frozenset[PciAddress] = frozenset()
    """GPUs of which we know whether they have NVLinks to one another."""
    nvlink_from: tuple[str, ...] = ()
    """Where the NVLinks are known from."""
    module_ids: tuple[tuple[PciAddress, int], ...] = ()
    partitions: tuple[Partition, ...] = ()
    notes: tuple[str, ...] = ()
    """What is not known, and how to obtain it."""

    @functools.cached_property
    def place(self) -> dict[PciAddress, int]:
        """The row of each device, keyed by address."""
        return {device.address: i for i, device in enumerate(self.devices)}

    def is_certain(self, a: Function, b: Function) -> bool:
        """Tell whether a pair can have no better link than the known one."""
        if not (may_have_nvlink(a) and may_have_nvlink(b)):
            return True
        return {a.address, b.address} <= self.nvlink_known

    def build_topology(self, chosen: Sequence[Function]) -> Topology:
        """Make the topology of some of the devices, in their order.

        A pair whose way is not known counts as the worst there is. A fabric
        partition of which a GPU is not chosen keeps its size.
        """
        place = {device.address: i for i, device in enumerate(chosen)}
        rows = [self.place[device.address] for device in chosen]
        matrix, ways = (
            [
                [
                    links.SYS if (link := known[a][b]) is None else link
                    for b in rows
                ]
                for a in rows
            ]
            for known in (self.matrix, self.ways)
        )
        partitions = [
            FabricPartition(partition.id, len(partition.addresses), mask)
            for partition in self.partitions
            if (
                mask := make_mask(
                    place[address]
                    for address in partition.addresses
                    if address in place
                )
            )
        ]
        return Topology.from_matrix(
            matrix, partitions, [device.numa_node for device in chosen], ways
        )

    def build_device_links(
        self, chosen: Sequence[Function]
    ) -> dict[PciAddress, codec.DeviceLinks]:
        """Describe some of the devices by their link groups."""
        described = groups.decompose(self.build_topology(chosen))
        addresses = [device.address for device in chosen]
        return dict(zip(addresses, described, strict=True))


def may_have_nvlink(device: Function) -> bool:
    """Whether its chip is of a kind that can have NVLinks."""
    chip = device.chip
    return (
        device.vendor_id == chips.NVIDIA
        and device.base_class in (0x0300, 0x0302)
        and (
            chip is None
            or _WITHOUT_NVLINK.keys().isdisjoint(
                (chip.architecture, chip.code_name)
            )
        )
    )
