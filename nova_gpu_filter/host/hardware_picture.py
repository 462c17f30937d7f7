# SPDX-License-Identifier: Apache-2.0

"""Makes the picture of a host: its NUMA nodes, PCIe switches and devices."""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.drawing import arrange
from nova_gpu_filter.drawing import picture
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.topology import links

_PREFIXES = {Kind.GPU: "GPU", Kind.NIC: "NIC", Kind.NVSWITCH: "NVS"}
_LEGENDS = {Kind.GPU: "GPU", Kind.NIC: "RDMA NIC", Kind.NVSWITCH: "NVSwitch"}


def make(host: Inventory, host_links: HostLinks) -> picture.Picture:
    """Make the picture of a host."""
    notes = [f"Note: {note}" for note in host_links.notes]
    if host_links.nvlink_from:
        of_nvidia = any(
            device.vendor_id == chips.NVIDIA for device in host.gpus
        )
        notes.insert(
            0,
            f"{'NVLinks' if of_nvidia else 'Direct links'} from"
            f" {', '.join(host_links.nvlink_from)}",
        )
    if not host.devices:
        notes.insert(0, "No GPU, NVSwitch or RDMA NIC.")
    return picture.Picture(
        host.hostname,
        _summarize(host),
        _frame_of_host(host),
        (*_list_groups(host_links), *_list_partitions(host_links)),
        tuple(notes),
    )


def name_devices(host: Inventory) -> dict[PciAddress, str]:
    """Name the devices as nvidia-smi does: GPU0, NIC0; keyed by address.

    In the order in which they are to be listed.
    """
    return {
        device.address: f"{prefix}{index}"
        for kind, prefix in _PREFIXES.items()
        for index, device in enumerate(host.list_physical(kind))
    }


def _summarize(host: Inventory) -> str:
    counts = (
        (len(host.gpus), "GPU", "s"),
        (len(host.nvswitches), "NVSwitch", "es"),
        (len(host.nics), "RDMA NIC", "s"),
    )
    texts = (
        f"{number} {name}{'' if number == 1 else plural}"
        for number, name, plural in counts
    )
    return ", ".join(texts)


@dataclasses.dataclass
class _Place:
    """A root bus or a PCIe switch, and what is below it."""

    name: str
    places: dict[str, "_Place"] = dataclasses.field(default_factory=dict)
    devices: list[Function] = dataclasses.field(default_factory=list)

    def find_or_add(self, name: str) -> "_Place":
        return self.places.setdefault(name, _Place(name))


def _frame_of_host(host: Inventory) -> picture.Frame:
    """Arrange the devices by NUMA node, root bus and PCIe switch.

    Root ports, and ports of switches that lead to one device only, are left
    out: a picture shows what devices share.
    """
    by_node: dict[int | None, _Place] = {}
    names = name_devices(host)
    # GPUs come before what stands beside them.
    for address in names:
        device = host.by_address[address]
        node = device.numa_node
        name = "NUMA node not known" if node is None else f"NUMA node {node}"
        place = by_node.setdefault(node, _Place(name))
        place = place.find_or_add(device.root or "way not known")
        # Ports alternate: root port, upstream, downstream, upstream ...
        for upstream in device.bridges[1::2]:
            place = place.find_or_add(f"switch {upstream}")
        place.devices.append(device)
    return picture.Frame(
        "",
        tuple(
            _frame_of(host, names, by_node[node], is_strong=True)
            for node in sorted(
                by_node, key=lambda node: (node is None, node or 0)
            )
        ),
    )


def _frame_of(
    host: Inventory,
    names: dict[PciAddress, str],
    place: _Place,
    is_strong: bool = False,
) -> picture.Frame:
    name = place.name
    # A frame that holds but one other tells no more than its name.
    while not is_strong and not place.devices and len(place.places) == 1:
        (place,) = place.places.values()
        name = f"{name}, {place.name}"
    return picture.Frame(
        name,
        tuple(
            _frame_of(host, names, place.places[inner])
            for inner in sorted(place.places)
        ),
        tuple(_make_box(host, device, names) for device in place.devices),
        is_strong,
    )


def _make_box(
    host: Inventory, device: Function, names: dict[PciAddress, str]
) -> picture.Box:
    assert device.kind is not None, "an inventory lists only these as devices"
    return picture.Box(
        key=str(device.address),
        label=f"{names[device.address]} {device.address}",
        text=device.product or device.ids,
        status=", ".join(_list_facts(host, device, names)),
        legend=_LEGENDS[device.kind],
        color=device.kind.value,
        tooltip=device.format_lspci(with_domain=True),
    )


def _list_facts(
    host: Inventory, device: Function, names: dict[PciAddress, str]
) -> Iterator[str]:
    yield device.driver or "no driver"
    if device.vfs:
        yield f"{len(device.vfs)} VFs"
    yield from device.rdma_devices
    for other in host.list_card_functions(device):
        if other is not device and other.address not in names:
            yield (
                f"with .{other.address.function:x}"
                f" {other.class_name or other.ids}"
            )


def _list_groups(host_links: HostLinks) -> Iterator[picture.Column]:
    """List the NVLink groups: GPUs all of whose pairs have the link."""
    described = host_links.build_device_links(host_links.devices)
    members: dict[tuple[links.Link, int], list[str]] = {}
    for device in host_links.devices:
        for link, number in described[device.address].groups:
            if links.is_direct(link):
                members.setdefault((link, number), []).append(
                    str(device.address)
                )
    for link, number in sorted(members, key=lambda key: (-key[0], key[1])):
        yield picture.Column(
            links.name(link), str(number), tuple(members[link, number])
        )


def _list_partitions(
    host_links: HostLinks,
) -> Iterator[picture.Column]:
    for partition in host_links.partitions:
        size = len(partition.addresses)
        if size > 1 or partition.is_active:
            yield picture.Column(
                arrange.FABRIC,
                f"{partition.id}/{size}",
                tuple(map(str, partition.addresses)),
                is_partition=True,
                is_active=partition.is_active,
            )
