# SPDX-License-Identifier: Apache-2.0

"""Writes the part of nova.conf that offers the devices of one compute node."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import json

from nova_gpu_filter import printable
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import printed
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.configuration import mediated
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.links.host_links import HostLinks
from nova_gpu_filter.topology import codec

MARK = "# Written by nova-gpu-host config"
"""The first line of what we write, by which we know our own files."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to offer, and how to describe it."""

    names: naming.Choices = dataclasses.field(default_factory=naming.Choices)
    only: tuple[PciAddress, ...] = ()
    """Offer these; the GPUs of the host if empty."""
    nics: bool = False
    nvswitches: bool = False
    whole_cards: bool = False
    """Offer the other functions of a GPU's card, too."""
    managed: str | None = None
    """``yes`` or ``no``; None leaves the tag out, which is ``yes``."""
    live_migratable: bool = False
    mdevs: tuple[mediated.Group, ...] = ()
    """Devices that carry mediated ones, which are offered in their place."""
    one_time_use: bool = False
    """Nova reserves a device that was used; ``nova-gpu-agent`` gives it back.

    For whole devices only: nova-compute refuses it for VFs
    (nova/compute/pci_placement_translator.py).
    """
    links: bool = True
    report_in_placement: bool = False


def choose_devices(host: Inventory, options: Options) -> tuple[Function, ...]:
    """Choose the devices to offer, in address order.

    What the host itself needs is not offered unless it is named. VFs are in
    the place of their GPU where it has any.
    """
    return tuple(
        function
        for function in _list_wanted(host, options)
        if _find_obstacle(function, options) is None
    )


def _find_obstacle(function: Function, options: Options) -> str | None:
    """Say why a device is not offered; None: it is."""
    if function.vgpu_type == 0:
        return "the VF has no vGPU type: see 'nova-gpu-host vgpu'"
    if function.physfn is not None and function.mdev_types:
        return (
            "the VF carries mediated devices: nova-compute offers them by"
            " [devices]enabled_mdev_types"
        )
    if not options.only and function.is_needed_by_host:
        return f"the host needs it: {function.why_needed}"
    return None


def list_notes(host: Inventory, options: Options) -> Iterator[str]:
    """Yield what an operator should know of the choice, one line each."""
    left_out: dict[str, list[str]] = {}
    for function in _list_wanted(host, options):
        reason = _find_obstacle(function, options)
        if reason is not None:
            left_out.setdefault(reason, []).append(str(function.address))
    for reason, addresses in left_out.items():
        yield f"left out: {printable.list_few(addresses, ' ')} ({reason})"
    unnamed = dict.fromkeys(
        one.ids
        for one in choose_devices(host, options)
        if one.kind is Kind.GPU and one.product is None
    )
    for ids in unnamed:
        if host.names_from is None:
            why = f"no pci.ids was found that names {ids}"
            cure = "install the package hwdata (or pci.ids on Debian)"
        else:
            why = f"{host.names_from} does not know {ids}"
            cure = "update pci.ids"
        yield (
            f"{why}: its resource class is made of the ids; {cure} before the"
            f" class is in use, or choose one with --resource-class {ids}=NAME"
        )
    for pf, types in collect_vgpu_types(choose_devices(host, options)).items():
        if len(types) > 1:
            yield (
                f"the VFs of {pf} have different vGPU types"
                f" ({', '.join(map(str, sorted(types)))}), and Nova has one"
                " resource class a PF: a server may get any of them; give all"
                " VFs of a PF one type"
            )


def collect_vgpu_types(
    functions: Iterable[Function],
) -> dict[PciAddress, set[int]]:
    """Collect the vGPU types of VFs that have one, keyed by their PF."""
    found: dict[PciAddress, set[int]] = {}
    for function in functions:
        if function.physfn is not None and function.vgpu_type:
            found.setdefault(function.physfn, set()).add(function.vgpu_type)
    return found


def _list_wanted(host: Inventory, options: Options) -> tuple[Function, ...]:
    found: list[Function] = []
    kinds = {Kind.GPU}
    if options.nics:
        kinds.add(Kind.NIC)
    if options.nvswitches:
        kinds.add(Kind.NVSWITCH)
    carriers = {
        parent.address for group in options.mdevs for parent in group.parents
    }
    for device in host.devices:
        if (
            device.address not in options.only
            if options.only
            else device.kind not in kinds
        ):
            continue
        found.extend(
            one
            for one in tuple(host.list_vfs(device)) or (device,)
            if one.address not in carriers
        )
        if (
            options.whole_cards
            and device.kind is Kind.GPU
            and device.address not in carriers
            and _find_obstacle(device, options) is None
        ):
            found.extend(
                other
                for other in host.list_card_functions(device)
                if other.kind is Kind.FUNCTION
            )
    return tuple(sorted(found, key=lambda function: function.address))


def write_device_spec(
    function: Function,
    device_links: codec.DeviceLinks | None,
    options: Options,
) -> dict[str, str]:
    """Describe one device as ``[pci]device_spec``."""
    spec = {
        "address": str(function.address),
        "vendor_id": f"{function.vendor_id:04x}",
        "product_id": f"{function.product_id:04x}",
    }
    name = naming.name_resource_class(function, options.names)
    if name is not None:
        spec["resource_class"] = name
    traits = list(naming.name_traits(function))
    if device_links is not None:
        traits.extend(codec.format_traits(device_links))
    if traits:
        # Nova does not strip spaces beside the commas.
        spec["traits"] = ",".join(traits)
    if device_links is not None and (text := codec.format_text(device_links)):
        spec[codec.TAG] = text
    if function.vgpu_type is not None:
        # NVIDIA's driver is the VFIO driver of such a VF, and libvirt must
        # not bind it to another (Nova's admin/pci-passthrough, managed).
        spec["managed"] = "no"
    elif options.managed is not None:
        spec["managed"] = options.managed
    if options.live_migratable:
        spec["live_migratable"] = "yes"
    if options.one_time_use and function.physfn is None:
        spec["one_time_use"] = "true"
    return spec


def write_option(name: str, value: Mapping[str, str]) -> str:
    """Write an option of JSON, in which oslo.config finds no ``$name``."""
    return f"{name} = {json.dumps(value).replace('$', '$$')}"


def write_comment(text: str) -> Iterator[str]:
    """Write a text as comment, one line a line."""
    for line in text.splitlines():
        yield f"# {line}"


def write(host: Inventory, host_links: HostLinks, options: Options) -> str:
    """Write the fragment, with what is worth knowing as comments."""
    lines = [f"{MARK} on {host.hostname}."]
    devices = choose_devices(host, options)
    if devices:
        lines.append(
            "# One device_spec a device; gpu_links is for nova-gpu-filter."
        )
    notes = host_links.notes if devices and options.links else ()
    for note in (*notes, *list_notes(host, options)):
        lines += write_comment(note)
    if devices:
        lines += ["", "[pci]"]
        if options.report_in_placement:
            lines.append("report_in_placement = true")
        else:
            lines += [
                "# resource_class and traits count only with"
                " report_in_placement = true",
                "# (it cannot be taken back).",
            ]
    # Of the links, those among what is offered, whole devices only.
    whole = [one for one in devices if one.address in host_links.place]
    described = host_links.build_device_links(whole) if options.links else {}
    for function in devices:
        device_links = described.get(function.address)
        lines += ["", *_write_device(function, device_links, options)]
    if options.mdevs:
        lines += mediated.write(options.mdevs)
    return printed.join_lines(lines)


def _write_device(
    function: Function,
    device_links: codec.DeviceLinks | None,
    options: Options,
) -> Iterator[str]:
    numa = "not known" if function.numa_node is None else function.numa_node
    yield from write_comment(
        f"{function.format_lspci(with_domain=True)}, {function.nova_type},"
        f" NUMA node {numa}"
    )
    if function.address.domain > address_lib.MAX_NOVA_DOMAIN:
        yield "# Nova ignores devices in PCI domains above ffff."
        return
    yield write_option(
        "device_spec", write_device_spec(function, device_links, options)
    )
