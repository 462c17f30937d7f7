# SPDX-License-Identifier: Apache-2.0

"""Joins what sysfs, nvidia-smi and Fabric Manager say of a host's links."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import TypeAlias

from nova_gpu_filter import exception
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links import comparison
from nova_gpu_filter.host.links import fabric_output
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.host.links.direct_links import DirectLinks
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.links.host_links import Partition
from nova_gpu_filter.host.links.host_links import may_have_nvlink
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link

_HOW_TO_OBTAIN = (
    "save 'nvidia-smi topo -m' and 'nvidia-smi -q', and give them with"
    " --nvidia-smi-topo and --nvidia-smi-q"
)

DirectLinkByPair: TypeAlias = dict[frozenset[PciAddress], Link | None]
"""What is said of pairs; None: they have no link of their own."""


def _name_boards(host: Inventory) -> str:
    """Say which boards a host may have, to be named in place of files."""
    boards = baseboards.list_fitting(host)
    if not boards:
        return ""
    options = " or ".join(f"--baseboard {board.name}" for board in boards)
    if all(board.is_board for board in boards):
        return f"; or name the board with {options}"
    return f"; or, if the GPUs have such a bridge, name it with {options}"


@dataclasses.dataclass(frozen=True)
class Sources:
    """What was given beside sysfs: (name for messages, text) each."""

    topo: tuple[str, str] | None = None
    query: tuple[str, str] | None = None
    fabric: tuple[str, str] | None = None
    baseboard: str | None = None
    vendor_tools: Mapping[str, tuple[str, str]] = dataclasses.field(
        default_factory=dict
    )
    """By :attr:`vendor_tools.Tool.key`."""


def join(host: Inventory, sources: Sources | None = None) -> HostLinks:
    """Find the links of a host.

    :raises BadInput: a source cannot be read, does not belong to this host,
        or contradicts another. Nothing is guessed.
    """
    sources = sources or Sources()
    devices = host.devices
    ways = pcie.find_ways(devices, host.numa_nodes)
    query = _read_query(host, sources.query) if sources.query else {}
    direct: DirectLinkByPair = {}
    covered: set[PciAddress] = set()
    origins: list[str] = []
    notes: list[str] = []
    if sources.topo is not None:
        source = sources.topo[0]
        matrix = smi.parse_topo(*sources.topo)
        with exception.name_source(source):
            gpus = _find_gpus_of_topo(host, matrix, query)
            direct, unclear = _read_topo(matrix, gpus)
            unclear += comparison.compare(host, matrix, gpus, bool(query))
        unlinked = _find_without_nvlink(host, gpus, direct)
        if unlinked:
            unclear.append(_describe_unlinked(gpus, unlinked))
        # What is not known the board may say.
        direct = {
            pair: link for pair, link in direct.items() if not pair & unlinked
        }
        notes += [f"{source}: {one}" for one in unclear]
        covered = {gpu.address for gpu in gpus} - unlinked
        if covered:
            origins.append(source)
    if sources.baseboard is not None:
        with exception.name_source(f"baseboard '{sources.baseboard}'"):
            board, gpus = baseboards.find(sources.baseboard, host)
            _read_board(board, gpus, direct, sources.topo)
        covered.update(gpu.address for gpu in gpus)
        origins.append(f"baseboard {board.name}")
    for tool in vendor_tools.TOOLS:
        given = sources.vendor_tools.get(tool.key)
        if given is None:
            continue
        found = tool.parse(*given)
        with exception.name_source(given[0]):
            of_tool = _locate_links(host, tool, found)
        if not any(of_tool.values()) and any(
            host.by_address[address].product_id in tool.always_linked
            for address in itertools.chain(*of_tool)
        ):
            notes.append(
                f"{given[0]}: not one link of {tool.links}, though these"
                " devices are linked on every board that takes them: save"
                f" '{tool.commands}' while all are bound to their driver"
            )
            continue
        direct.update(of_tool)
        covered.update(*of_tool)
        origins.append(given[0])
    place = {device.address: i for i, device in enumerate(devices)}
    best = list(map(list, ways))
    for pair, link in direct.items():
        if link is not None:
            a, b = (place[address] for address in pair)
            best[a][b] = best[b][a] = link
    module_ids = {
        address: module_id
        for address, module_id in query.items()
        if module_id is not None
    }
    partitions: tuple[Partition, ...] = ()
    if sources.fabric is not None:
        listed = fabric_output.parse(*sources.fabric)
        with exception.name_source(sources.fabric[0]):
            partitions = fabric_output.locate(host, listed, module_ids)
    return HostLinks(
        devices=devices,
        matrix=tuple(map(tuple, best)),
        ways=ways,
        nvlink_known=frozenset(covered),
        nvlink_from=tuple(origins),
        module_ids=tuple(sorted(module_ids.items())),
        partitions=partitions,
        notes=(*notes, *_list_unknown(host, covered)),
    )


def _check_node(name: str, node: int | None, device: Function) -> None:
    """Refuse a file in which a device is on another NUMA node."""
    if None not in (node, device.numa_node) and node != device.numa_node:
        raise exception.Malformed(
            f"{name} is on NUMA node {node}, but {device.address} on"
            f" {device.numa_node}: this file is of another host"
        )


def _read_query(
    host: Inventory, given: tuple[str, str]
) -> dict[PciAddress, int | None]:
    gpus = {gpu.address for gpu in host.gpus}
    query = smi.parse_query(*given)
    for address in query:
        if address not in gpus:
            raise exception.BadInput(
                source=given[0],
                reason=f"{address} is no GPU of {host.hostname}: this file is"
                " of another host",
            )
    return query


def _find_gpus_of_topo(
    host: Inventory,
    matrix: smi.TopoMatrix,
    query: Collection[PciAddress],
) -> tuple[Function, ...]:
    """Tell which device GPU0, GPU1 and so on are.

    nvidia-smi numbers in PCI order the GPUs that NVML sees. Which these are
    is said by ``nvidia-smi -q``; without it, they must be all NVIDIA GPUs.
    """
    if query:
        if len(query) != matrix.gpus:
            raise exception.Malformed(
                f"{matrix.gpus} GPUs, but 'nvidia-smi -q' has"
                f" {len(query)}: the two are not of the same time or host"
            )
        return tuple(host.by_address[address] for address in query)
    gpus = tuple(gpu for gpu in host.gpus if gpu.vendor_id == chips.NVIDIA)
    if len(gpus) != matrix.gpus:
        raise exception.Malformed(
            f"{matrix.gpus} GPUs, but {host.hostname} has"
            f" {len(gpus)} NVIDIA GPUs. nvidia-smi does not see those that"
            " are bound to vfio-pci: to show which ones it saw, save"
            " 'nvidia-smi -q' at the same time and give it with"
            " --nvidia-smi-q"
        )
    return gpus


def _read_topo(
    matrix: smi.TopoMatrix, gpus: Sequence[Function]
) -> tuple[DirectLinkByPair, list[str]]:
    """Give the NVLinks of a matrix, and what nvidia-smi did not know."""
    for index, gpu in enumerate(gpus):
        _check_node(f"GPU{index}", matrix.numa[index], gpu)
    direct: DirectLinkByPair = {}
    unknown = []
    for a, one in enumerate(gpus):
        for b, other in enumerate(gpus[:a]):
            link = matrix.cells[a][b]
            if link is None:
                unknown.append(
                    f"nvidia-smi does not know the link of {other.address}"
                    f" and {one.address}"
                )
            else:
                pair = frozenset({one.address, other.address})
                direct[pair] = link if links.is_direct(link) else None
    return direct, unknown


def _find_without_nvlink(
    host: Inventory, gpus: Sequence[Function], direct: DirectLinkByPair
) -> frozenset[PciAddress]:
    """Find GPUs that have NVLinks by their board, and none in a matrix."""
    on_board = [
        gpu
        for gpu in gpus
        if host.nvswitches
        or any(one.is_board for one in baseboards.list_boards(gpu))
    ]
    if len(on_board) < 2:
        return frozenset()
    linked = {
        address
        for pair, link in direct.items()
        if link is not None
        for address in pair
    }
    return frozenset(gpu.address for gpu in on_board) - linked


def _describe_unlinked(
    gpus: Sequence[Function], unlinked: frozenset[PciAddress]
) -> str:
    if len(unlinked) == len(gpus):
        return (
            "not one NVLink, though this board has them: it is the output of"
            " 'nvidia-smi topo -mp', or Fabric Manager did not run; save"
            " 'nvidia-smi topo -m' while it runs"
        )
    addresses = " ".join(map(str, sorted(unlinked)))
    return (
        f"no NVLink of {addresses}, though this board has them: see"
        " 'nvidia-smi nvlink -s', MIG mode and Fabric Manager's log"
    )


def _read_board(
    board: baseboards.Baseboard,
    gpus: Sequence[Function],
    direct: DirectLinkByPair,
    topo: tuple[str, str] | None,
) -> None:
    """Add the links of a board; those that are known already are the same."""
    for a, one in enumerate(gpus):
        for b, other in enumerate(gpus[:a]):
            link = board.get_link(b, a)
            said = direct.setdefault(
                frozenset({one.address, other.address}), link
            )
            if said != link and topo is not None:
                on_board, in_topo = (
                    "no NVLink" if known is None else links.name(known)
                    for known in (link, said)
                )
                raise exception.Malformed(
                    f"{other.address} and {one.address} have {on_board}, but"
                    f" {in_topo} in {topo[0]}"
                )


def _list_unknown(host: Inventory, covered: set[PciAddress]) -> Iterator[str]:
    """Yield what is not known, and how to obtain it."""
    candidates = [gpu for gpu in host.gpus if may_have_nvlink(gpu)]
    unknown = [gpu for gpu in candidates if gpu.address not in covered]
    # One GPU has nobody to be linked with.
    if unknown and len(candidates) > 1:
        why = first = ""
        if any(gpu.driver != "nvidia" for gpu in unknown):
            why = (
                " (nvidia-smi sees no GPU that is not bound to the driver"
                " nvidia)"
            )
            first = "bind the GPUs to the driver nvidia once, "
        yield (
            f"NVLink: unknown for {_join_addresses(unknown)}{why}."
            f" To obtain it, {first}{_HOW_TO_OBTAIN}{_name_boards(host)}"
        )
    for tool in vendor_tools.TOOLS:
        of_vendor = _list_devices(host, tool)
        if len(of_vendor) > 1 and not covered.issuperset(
            device.address for device in of_vendor
        ):
            yield (
                f"{tool.links}: unknown for {_join_addresses(of_vendor)}."
                " These devices have links of their own, which sysfs does not"
                f" show. To obtain them, save '{tool.commands}' while the"
                " devices are bound to their driver, and give the file with"
                f" {tool.option}"
            )


def _join_addresses(devices: Iterable[Function]) -> str:
    return " ".join(str(device.address) for device in devices)


def _list_devices(
    host: Inventory, tool: vendor_tools.Tool
) -> Sequence[Function]:
    return [
        gpu
        for gpu in host.gpus
        if gpu.vendor_id == tool.vendor_id
        and gpu.base_class in tool.base_classes
    ]


def _locate_links(
    host: Inventory, tool: vendor_tools.Tool, found: DirectLinks
) -> DirectLinkByPair:
    """Find the links of each pair of devices of a vendor.

    :raises Malformed: it is not known which device is which, or they are
        those of another host.
    """
    devices = {device.address: device for device in _list_devices(host, tool)}
    addresses = {
        number: found.addresses[number]
        for number in found.devices
        if number in found.addresses
    }
    for address in addresses.values():
        if address not in devices:
            raise exception.Malformed(
                f"{address} is no such device of {host.hostname}: this file is"
                " of another host"
            )
    if len(addresses) < len(found.devices):
        if len(found.devices) != len(devices):
            raise exception.Malformed(
                f"{len(found.devices)} devices, but {host.hostname} has"
                f" {len(devices)}: to show which ones they are, save"
                f" '{tool.commands}' into one file"
            )
        if len(set(found.link_by_pair.values())) > 1:
            raise exception.Malformed(
                "not all pairs have the same link, and the order of the"
                " devices need not be that of the PCI addresses: save"
                f" '{tool.commands}' into one file"
            )
        addresses = dict(zip(found.devices, devices, strict=True))
    else:
        for number, node in found.numa.items():
            device = devices[addresses[number]]
            _check_node(f"device {number}", node, device)
    return {
        frozenset({addresses[a], addresses[b]}): link
        for (a, b), link in found.link_by_pair.items()
    }
