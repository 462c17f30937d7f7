# SPDX-License-Identifier: Apache-2.0

"""Joins what sysfs, nvidia-smi and Fabric Manager say of a host's links."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import itertools

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.links import fabric
from nova_gpu_filter.host.links import pcie
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.host.links import vendor_tools
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import links
from nova_gpu_filter.topology.links import Link
from nova_gpu_filter.topology.topology import FabricPartition
from nova_gpu_filter.topology.topology import Topology
from nova_gpu_filter.topology.topology import mask_of

NVIDIA = 0x10DE

# NVLink came with Pascal.
_BEFORE_NVLINK = frozenset({"Tesla", "Fermi", "Kepler", "Maxwell"})

# A complete order of 16 GPUs is found in a few hundred, if there is one.
_MOST_STEPS = 20_000

_HOW_TO_OBTAIN = (
    "save 'nvidia-smi topo -m' and 'nvidia-smi -q', and give them with"
    " --nvidia-smi-topo and --nvidia-smi-q"
)


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


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """A fabric partition of this host."""

    id: int
    addresses: tuple[PciAddress, ...]
    """Its GPUs, in address order."""
    module_ids: tuple[int, ...]
    is_active: bool = False


@dataclasses.dataclass(frozen=True)
class HostLinks:
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

    def __post_init__(self) -> None:
        printable.escape_fields(self)

    @functools.cached_property
    def place(self) -> dict[PciAddress, int]:
        """The row of each device, keyed by address."""
        return {device.address: i for i, device in enumerate(self.devices)}

    def get_link(self, a: PciAddress, b: PciAddress) -> Link | None:
        """Give the best known link of two devices."""
        return self.matrix[self.place[a]][self.place[b]]

    def is_certain(self, a: Function, b: Function) -> bool:
        """Tell whether a pair can have no better link than the known one."""
        if not (_may_have_nvlink(a) and _may_have_nvlink(b)):
            return True
        return {a.address, b.address} <= self.nvlink_known

    def topology(self, chosen: Sequence[Function]) -> Topology:
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
        partitions = []
        for partition in self.partitions:
            mask = mask_of(
                place[address]
                for address in partition.addresses
                if address in place
            )
            if mask:
                partitions.append(
                    FabricPartition(
                        partition.id, len(partition.addresses), mask
                    )
                )
        return Topology.from_matrix(
            matrix, partitions, [device.numa_node for device in chosen], ways
        )

    def device_links(
        self, chosen: Sequence[Function]
    ) -> dict[PciAddress, codec.DeviceLinks]:
        """Describe some of the devices by their link groups."""
        described = groups.decompose(self.topology(chosen))
        return {
            device.address: device_links
            for device, device_links in zip(chosen, described, strict=True)
        }


def _may_have_nvlink(device: Function) -> bool:
    return (
        device.vendor_id == NVIDIA
        and device.base_class in (0x0300, 0x0302)
        and not (device.chip and device.chip.architecture in _BEFORE_NVLINK)
    )


def join(host: Inventory, sources: Sources | None = None) -> HostLinks:
    """Find the links of a host.

    :raises BadInput: a source cannot be read, does not belong to this host,
        or contradicts another. Nothing is guessed.
    """
    sources = sources or Sources()
    devices = host.devices
    ways = pcie.ways(devices, host.numa_nodes)
    known = list(map(list, ways))
    query = (
        smi.parse_query(*sources.query) if sources.query is not None else ()
    )
    _check_query(host, query, sources)
    nvlinks: dict[frozenset[PciAddress], tuple[Link | None, str]] = {}
    covered: set[PciAddress] = set()
    origins: list[str] = []
    notes: list[str] = []
    if sources.topo is not None:
        gpus = _gpus_of_topo(host, sources.topo, query)
        _read_topo(host, sources.topo, gpus, bool(query), nvlinks, notes)
        unlinked = _find_without_nvlink(host, gpus, nvlinks)
        if unlinked:
            notes.append(_say_unlinked(sources.topo[0], gpus, unlinked))
        covered.update(gpu.address for gpu in gpus)
        covered.difference_update(unlinked)
        for pair in list(nvlinks):
            if pair & unlinked:
                # Not known, so that the board may say it.
                del nvlinks[pair]
        if covered:
            origins.append(sources.topo[0])
    if sources.baseboard is not None:
        board = baseboards.find(sources.baseboard)
        gpus = baseboards.check(board, host)
        _read_board(board, gpus, nvlinks)
        covered.update(gpu.address for gpu in gpus)
        origins.append(f"baseboard {board.name}")
    for tool in vendor_tools.TOOLS:
        given = sources.vendor_tools.get(tool.key)
        if given is not None:
            for pair, link in _read_vendor_tool(host, tool, given).items():
                nvlinks[pair] = link, given[0]
                covered |= pair
            origins.append(given[0])
    place = {device.address: i for i, device in enumerate(devices)}
    for pair, (link, _) in nvlinks.items():
        a, b = (place[address] for address in pair)
        if link is not None:
            known[a][b] = known[b][a] = link
    module_ids = {
        gpu.address: gpu.module_id
        for gpu in query
        if gpu.module_id is not None
    }
    partitions = (
        _partitions(host, sources.fabric, module_ids)
        if sources.fabric is not None
        else ()
    )
    notes.extend(_unknown(host, covered))
    return HostLinks(
        devices=devices,
        matrix=tuple(map(tuple, known)),
        ways=ways,
        nvlink_known=frozenset(covered),
        nvlink_from=tuple(origins),
        module_ids=tuple(sorted(module_ids.items())),
        partitions=partitions,
        notes=tuple(notes),
    )


def _check_query(
    host: Inventory, query: Sequence[smi.SmiGpu], sources: Sources
) -> None:
    gpus = {gpu.address for gpu in host.gpus}
    for gpu in query:
        if gpu.address not in gpus:
            assert sources.query is not None
            raise exception.BadInput(
                source=sources.query[0],
                reason=f"{gpu.address} is no GPU of {host.hostname}: this file"
                " is of another host",
            )


def _gpus_of_topo(
    host: Inventory, topo: tuple[str, str], query: Sequence[smi.SmiGpu]
) -> tuple[Function, ...]:
    """Tell which device GPU0, GPU1 and so on are.

    nvidia-smi numbers in PCI order the GPUs that NVML sees. Which these are
    is said by ``nvidia-smi -q``; without it, they must be all NVIDIA GPUs.
    """
    matrix = smi.parse_topo(*topo)
    if query:
        if len(query) != matrix.gpus:
            raise exception.BadInput(
                source=topo[0],
                reason=f"{matrix.gpus} GPUs, but 'nvidia-smi -q' has"
                f" {len(query)}: the two are not of the same time or host",
            )
        return tuple(host.by_address[gpu.address] for gpu in query)
    gpus = tuple(gpu for gpu in host.gpus if gpu.vendor_id == NVIDIA)
    if len(gpus) != matrix.gpus:
        raise exception.BadInput(
            source=topo[0],
            reason=f"{matrix.gpus} GPUs, but {host.hostname} has"
            f" {len(gpus)} NVIDIA GPUs. nvidia-smi does not see those that"
            " are bound to vfio-pci: to tell which ones it saw, save"
            " 'nvidia-smi -q' at the same time and give it with"
            " --nvidia-smi-q",
        )
    return gpus


def _distance(link: Link) -> str:
    """Say what a PCIe link tells about the places of two devices."""
    if link >= links.PXB:
        return "below one root port"
    return "on one NUMA node" if link >= links.NODE else "on two NUMA nodes"


def _read_topo(
    host: Inventory,
    topo: tuple[str, str],
    gpus: Sequence[Function],
    is_sure: bool,
    nvlinks: dict[frozenset[PciAddress], tuple[Link | None, str]],
    notes: list[str],
) -> None:
    matrix = smi.parse_topo(*topo)
    for index, gpu in enumerate(gpus):
        node = matrix.numa[index]
        if None not in (node, gpu.numa_node) and node != gpu.numa_node:
            raise exception.BadInput(
                source=topo[0],
                reason=f"GPU{index} is on NUMA node {node}, but"
                f" {gpu.address} on {gpu.numa_node}: this file is of another"
                " host",
            )
    for a, one in enumerate(gpus):
        for b, other in enumerate(gpus[:a]):
            link = matrix.gpu_link(a, b)
            pair = frozenset({one.address, other.address})
            if link is None:
                notes.append(
                    f"{topo[0]}: nvidia-smi could not tell the link of"
                    f" {other.address} and {one.address}"
                )
            else:
                nvlinks[pair] = (
                    link if links.is_direct(link) else None,
                    topo[0],
                )
    _compare(host, topo[0], matrix, gpus, is_sure, notes)


def _find_without_nvlink(
    host: Inventory,
    gpus: Sequence[Function],
    nvlinks: dict[frozenset[PciAddress], tuple[Link | None, str]],
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
        for pair, (link, _) in nvlinks.items()
        if link is not None
        for address in pair
    }
    return frozenset(gpu.address for gpu in on_board) - linked


def _say_unlinked(
    source: str, gpus: Sequence[Function], unlinked: frozenset[PciAddress]
) -> str:
    if len(unlinked) == len(gpus):
        return (
            f"{source}: not one NVLink, though this board has them: it is the"
            " output of 'nvidia-smi topo -mp', or Fabric Manager did not run;"
            " save 'nvidia-smi topo -m' while it runs"
        )
    addresses = " ".join(map(str, sorted(unlinked)))
    return (
        f"{source}: no NVLink of {addresses}, though this board has them: see"
        " 'nvidia-smi nvlink -s', MIG mode and Fabric Manager's log"
    )


def _compare(
    host: Inventory,
    source: str,
    matrix: smi.TopoMatrix,
    gpus: Sequence[Function],
    is_sure: bool,
    notes: list[str],
) -> None:
    """Hold the PCIe links of nvidia-smi against sysfs.

    A virtual machine, its firmware or a driver can show them otherwise than
    they are, alike for all GPUs. So they speak against a file only if the
    GPUs in another order fit better, if it has no NUMA affinity by which to
    know the host, or if a network card is on another NUMA node.

    :param is_sure: ``nvidia-smi -q`` says which GPU has which index.
    :raises BadInput: the file is of another host, or in another order.
    """
    comparison = _Comparison(host, matrix, gpus)
    order = tuple(range(len(gpus)))
    contradictions = comparison.contradictions(order)
    if not contradictions:
        return
    if not is_sure:
        is_known = all(
            None not in (matrix.numa[index], gpu.numa_node)
            for index, gpu in enumerate(gpus)
        )
        if (
            not is_known
            or comparison.has_card_on_another_node()
            or comparison.fits_better_than(order)
        ):
            raise exception.BadInput(
                source=source,
                reason=f"{contradictions[0]}: this file is of another host,"
                " or the GPUs were numbered in another order; give"
                " 'nvidia-smi -q' of the same time with --nvidia-smi-q",
            )
    notes.extend(
        f"{source}: {said}; sysfs is taken" for said in contradictions
    )


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
            [_pcie_only(matrix.cells[row][column]) for column in columns]
            for row in range(matrix.gpus)
        ]
        self._ours = [
            [self._relation(host, one, other) for other in self._others]
            for one in gpus
        ]

    @staticmethod
    def _relation(
        host: Inventory, one: Function, other: Function
    ) -> Link | None:
        link = pcie.relation(one, other, host.numa_nodes)
        if link == links.SYS and None in (one.numa_node, other.numa_node):
            # Two root buses, and sysfs does not say on which nodes.
            return None
        return link

    def _difference(
        self, row: int, column: int, one: int, other: int
    ) -> tuple[Link, Link] | None:
        """Give what nvidia-smi and what sysfs says, if these exclude another.

        :param row: of the matrix; so is ``column``.
        :param one: device that is thought to be there; so is ``other``.
        """
        said, ours = self._said[row][column], self._ours[one][other]
        if said is None or ours is None or _distance(said) == _distance(ours):
            return None
        return said, ours

    def _pairs(self) -> Iterator[tuple[int, int]]:
        for row in range(len(self._gpus)):
            yield from ((row, column) for column in range(row))
            yield from (
                (row, column)
                for column in range(len(self._gpus), len(self._others))
            )

    def contradictions(self, order: Sequence[int]) -> list[str]:
        """Give a sentence for each pair whose links differ.

        :param order: which of the GPUs has index 0, 1 and so on.
        """
        found = []
        for row, column in self._pairs():
            one = order[row]
            other = order[column] if column < len(order) else column
            difference = self._difference(row, column, one, other)
            if difference is not None:
                said, ours = difference
                found.append(
                    f"{self._others[other].address} and"
                    f" {self._others[one].address} are {links.name(said)}"
                    f" ({_distance(said)}), but {links.name(ours)} in sysfs"
                )
        return found

    def has_card_on_another_node(self) -> bool:
        """Whether a card that is beside a GPU is said to be on another node,
        or the other way round.
        """
        return any(
            (self._said[row][column] == links.SYS)
            != (self._ours[row][column] == links.SYS)
            for row, column in self._pairs()
            if column >= len(self._gpus)
            and None not in (self._said[row][column], self._ours[row][column])
        )

    def fits_better_than(self, order: tuple[int, ...]) -> bool:
        """Whether two GPUs exchanged, or some order, contradict sysfs less."""
        least = len(self.contradictions(order))
        for a, b in itertools.combinations(order, 2):
            exchanged = list(order)
            exchanged[a], exchanged[b] = b, a
            if (
                all(map(self._is_allowed, range(len(order)), exchanged))
                and len(self.contradictions(exchanged)) < least
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
                self._difference(row, column, gpu, placed[column])
                for column in range(row)
            ) or any(
                self._difference(row, column, gpu, column)
                for column in range(len(self._gpus), len(self._others))
            ):
                continue
            if self._can_complete(placed):
                return True
        return False


def _pcie_only(link: Link | None) -> Link | None:
    return None if link is None or link > links.PIX else link


def _read_board(
    board: baseboards.Baseboard,
    gpus: Sequence[Function],
    nvlinks: dict[frozenset[PciAddress], tuple[Link | None, str]],
) -> None:
    for a, one in enumerate(gpus):
        for b, other in enumerate(gpus[:a]):
            pair = frozenset({one.address, other.address})
            link = board.link(b, a)
            said, source = nvlinks.setdefault(pair, (link, ""))
            if said != link:
                raise exception.BadInput(
                    source=f"baseboard '{board.name}'",
                    reason=f"{other.address} and {one.address} have"
                    f" {'no NVLink' if link is None else links.name(link)},"
                    " but"
                    f" {'no NVLink' if said is None else links.name(said)}"
                    f" in {source}",
                )


def _partitions(
    host: Inventory,
    source: tuple[str, str],
    module_ids: dict[PciAddress, int],
) -> tuple[Partition, ...]:
    """Give the partitions PCI addresses: by Fabric Manager or Module Id."""
    address_by_module = {id_: address for address, id_ in module_ids.items()}
    gpus = {gpu.address for gpu in host.gpus}
    partitions = []
    for listed in fabric.parse(*source):
        addresses = []
        for member in listed.members:
            by_module = address_by_module.get(member.module_id)
            if None not in (by_module, member.address) and (
                by_module != member.address
            ):
                raise exception.BadInput(
                    source=source[0],
                    reason=f"Module Id {member.module_id} is"
                    f" {member.address}, but {by_module} in 'nvidia-smi -q'",
                )
            address = member.address or by_module
            if address is None:
                raise exception.BadInput(
                    source=source[0],
                    reason=f"partition {listed.id} has Module Id"
                    f" {member.module_id}, and nothing says which GPU that"
                    " is. Module Ids do not follow the PCI order, so it is"
                    " not guessed: save 'nvidia-smi -q' while all GPUs are"
                    " bound to the driver nvidia, and give it with"
                    " --nvidia-smi-q",
                )
            if address not in gpus:
                raise exception.BadInput(
                    source=source[0],
                    reason=f"{address} of partition {listed.id} is no GPU of"
                    f" {host.hostname}: this file is of another host",
                )
            addresses.append(address)
        if len(set(addresses)) < len(addresses):
            raise exception.BadInput(
                source=source[0],
                reason=f"partition {listed.id} has one GPU twice",
            )
        partitions.append(
            Partition(
                id=listed.id,
                addresses=tuple(sorted(addresses)),
                module_ids=tuple(
                    member.module_id for member in listed.members
                ),
                is_active=listed.is_active,
            )
        )
    return tuple(partitions)


def _unknown(host: Inventory, covered: set[PciAddress]) -> list[str]:
    notes = []
    candidates = [gpu for gpu in host.gpus if _may_have_nvlink(gpu)]
    unknown = [gpu for gpu in candidates if gpu.address not in covered]
    # One GPU has nobody to be linked with.
    if unknown and len(candidates) > 1:
        unseen = [gpu for gpu in unknown if gpu.driver != "nvidia"]
        why, first = (
            (
                " (nvidia-smi sees no GPU that is not bound to the driver"
                " nvidia)",
                "bind the GPUs to the driver nvidia once, ",
            )
            if unseen
            else ("", "")
        )
        notes.append(
            "NVLink: unknown for"
            f" {' '.join(str(gpu.address) for gpu in unknown)}{why}."
            f" To obtain it, {first}{_HOW_TO_OBTAIN}{_name_boards(host)}"
        )
    for tool in vendor_tools.TOOLS:
        of_vendor = _devices_of(host, tool)
        if len(of_vendor) > 1 and not covered.issuperset(
            device.address for device in of_vendor
        ):
            notes.append(
                f"{tool.links}: unknown for"
                f" {' '.join(str(device.address) for device in of_vendor)}."
                " These devices have links of their own, which sysfs does not"
                f" show. To obtain them, save '{tool.commands}' while the"
                " devices are bound to their driver, and give the file with"
                f" {tool.option}"
            )
    return notes


def _devices_of(
    host: Inventory, tool: vendor_tools.Tool
) -> Sequence[Function]:
    return [
        gpu
        for gpu in host.gpus
        if gpu.vendor_id == tool.vendor_id
        and gpu.base_class in tool.base_classes
    ]


def _read_vendor_tool(
    host: Inventory, tool: vendor_tools.Tool, given: tuple[str, str]
) -> dict[frozenset[PciAddress], Link | None]:
    """Find the links of each pair of devices of a vendor.

    :raises BadInput: it is not known which device is which, or they are those
        of another host.
    """
    found = tool.parse(*given)
    devices = {device.address: device for device in _devices_of(host, tool)}
    addresses = {
        number: found.addresses[number]
        for number in found.devices
        if number in found.addresses
    }
    for address in addresses.values():
        if address not in devices:
            raise exception.BadInput(
                source=given[0],
                reason=f"{address} is no such device of {host.hostname}: this"
                " file is of another host",
            )
    if len(addresses) < len(found.devices):
        if len(found.devices) != len(devices):
            raise exception.BadInput(
                source=given[0],
                reason=f"{len(found.devices)} devices, but {host.hostname} has"
                f" {len(devices)}: to tell which ones they are, save"
                f" '{tool.commands}' into one file",
            )
        if not found.is_uniform:
            raise exception.BadInput(
                source=given[0],
                reason="not all pairs have the same link, and the order of the"
                " devices need not be that of the PCI addresses: save"
                f" '{tool.commands}' into one file",
            )
        addresses = dict(zip(found.devices, devices, strict=True))
    else:
        for number, node in found.numa.items():
            device = devices[addresses[number]]
            if device.numa_node not in (None, node):
                raise exception.BadInput(
                    source=given[0],
                    reason=f"device {number} is on NUMA node {node}, but"
                    f" {device.address} on {device.numa_node}: this file is"
                    " of another host",
                )
    return {
        frozenset({addresses[a], addresses[b]}): link
        for (a, b), link in found.link_by_pair.items()
    }
