# SPDX-License-Identifier: Apache-2.0

"""Holds the device specs of a nova.conf against the hardware.

What Nova does with them: nova/pci/manager.py (which devices it tracks),
nova/pci/stats.py (pools), nova/compute/pci_placement_translator.py (resource
providers; the errors that stop nova-compute).
"""

import collections
from collections.abc import Iterator

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import conf_aliases
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks import host_needs
from nova_gpu_filter.host.checks import vgpu
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import host_topologies

_CHECK = "nova-conf"
_FEW = 4


def check(
    host: Inventory,
    everything: tuple[Function, ...],
    options: pci_options.PciOptions,
) -> Iterator[Finding]:
    """Check the device specs of a compute node.

    :param everything: all PCI functions of the host, also those that are of
        no interest otherwise: a spec may match a disk.
    """
    if not options.device_specs:
        yield _finding(
            options,
            # A host may be there for mediated devices alone.
            Severity.ERROR
            if host.gpus and not options.mdev_groups
            else Severity.NOTE,
            "[pci]device_spec is not set: Nova gives no device to a guest",
            "[pci]",
            ("nova-gpu-host config",),
        )
        yield from conf_aliases.check(options, host, ())
        return
    specs: list[DeviceSpec] = []
    for text in options.device_specs:
        try:
            specs.extend(device_spec.parse(text))
        except device_spec.SpecError as error:
            yield _finding(
                options,
                Severity.ERROR,
                f"Nova refuses this device_spec, and nova-compute does not"
                f" start: {error}",
                text,
            )
    matches = _assign(everything, specs)
    for index, spec in enumerate(specs):
        yield from _spec(options, everything, spec, matches[index])
    taken = [
        (function, specs[index])
        for index, functions in matches.items()
        for function in functions
    ]
    yield from _providers(options, taken)
    yield from _links(options, taken)
    yield from _left_out(options, host, taken)
    yield from vgpu.check(options, taken)
    yield from conf_aliases.check(options, host, taken)


def _finding(
    options: pci_options.PciOptions,
    severity: Severity,
    summary: str,
    line: str,
    cures: tuple[str, ...] = (),
    device: PciAddress | None = None,
) -> Finding:
    return Finding(
        severity,
        _CHECK,
        summary,
        device=None if device is None else str(device),
        evidence=(Evidence(options.source, line),),
        cures=cures,
    )


def _assign(
    everything: tuple[Function, ...], specs: list[DeviceSpec]
) -> dict[int, list[Function]]:
    """Give each device to the first spec that matches it, as Nova does.

    Keyed by the place of the spec.
    """
    by_address = {function.address: function for function in everything}
    interfaces = {
        name: function
        for function in everything
        for name in function.interfaces
    }
    found: dict[int, list[Function]] = {
        index: [] for index in range(len(specs))
    }
    for function in everything:
        parent = by_address.get(function.physfn) if function.physfn else None
        for index, spec in enumerate(specs):
            if spec.matches(function, parent, interfaces):
                found[index].append(function)
                break
    return found


def _few(functions: list[Function]) -> str:
    shown = ", ".join(
        f"{function.address} ({function.product or function.ids})"
        for function in functions[:_FEW]
    )
    more = len(functions) - _FEW
    return f"{shown} and {more} more" if more > 0 else shown


def _spec(
    options: pci_options.PciOptions,
    everything: tuple[Function, ...],
    spec: DeviceSpec,
    matched: list[Function],
) -> Iterator[Finding]:
    if spec.devname is not None and options.report_in_placement:
        yield _finding(
            options,
            Severity.ERROR,
            "devname and report_in_placement exclude each other:"
            " nova-compute does not start",
            spec.text,
            ("# name the device by its address",),
        )
    if spec.doubled:
        yield _finding(
            options,
            Severity.WARNING,
            f"{', '.join(spec.doubled)} stands twice in this device_spec: the"
            " last one counts",
            spec.text,
            ("# write each key once",),
        )
    yield from _tags(options, spec)
    if not matched:
        again = _assign(everything, [spec])[0]
        yield _finding(
            options,
            Severity.WARNING,
            "this device_spec matches nothing"
            if not again
            else "this device_spec adds nothing: earlier ones match"
            f" {_few(again)}",
            spec.text,
            ("lspci -nnD  # compare ids and addresses",),
        )
        return
    yield from _too_much(options, spec, matched)


def _tags(
    options: pci_options.PciOptions, spec: DeviceSpec
) -> Iterator[Finding]:
    unknown = sorted(
        set(spec.tags) - device_spec.NOVA_TAGS - device_spec.OUR_TAGS
    )
    if unknown:
        yield _finding(
            options,
            Severity.WARNING,
            f"unknown tag {', '.join(unknown)}: Nova puts it into the pools,"
            " where only an alias that asks for the same value can match;"
            " a misspelt tag is such a one",
            spec.text,
            (
                "# known are "
                + ", ".join(
                    sorted(device_spec.NOVA_TAGS | device_spec.OUR_TAGS)
                ),
            ),
        )
    spaced = [trait for trait in spec.traits if trait != trait.strip()]
    if spaced:
        yield _finding(
            options,
            Severity.WARNING,
            f"a space beside the comma becomes part of the trait:"
            f" '{spaced[0]}'",
            spec.text,
            ("# write traits with commas only",),
        )
    links = spec.tags.get(codec.TAG)
    if links is not None:
        try:
            codec.parse_text("device_spec", str(links))
        except codec.LinkTextError as error:
            yield _finding(options, Severity.ERROR, str(error), spec.text)
    if spec.tags.get("one_time_use") and not options.report_in_placement:
        yield _finding(
            options,
            Severity.ERROR,
            "one_time_use needs [pci]report_in_placement: nova-compute does"
            " not start",
            spec.text,
        )


def _too_much(
    options: pci_options.PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Iterator[Finding]:
    yield from _pf_with_vfs(options, spec, matched)
    yield from _needed_by_host(options, spec, matched)
    kinds = {
        "network cards": [
            function for function in matched if function.kind is Kind.NIC
        ],
        "other functions of a card": [
            function for function in matched if function.kind is Kind.FUNCTION
        ],
        "bridges": [
            function
            for function in matched
            if function.base_class in (0x0600, 0x0604)
        ],
        "devices that are neither GPU nor network card": [
            function
            for function in matched
            if function.kind is None
            and function.base_class not in (0x0600, 0x0604)
        ],
    }
    gpus = [function for function in matched if function.kind is Kind.GPU]
    if gpus and spec.tags.get("physical_network"):
        yield _finding(
            options,
            Severity.WARNING,
            "physical_network is for network cards: with it no alias reaches"
            f" {_few(gpus)}, only ports of Neutron do",
            spec.text,
            ("# take physical_network out of the device_spec of GPUs",),
        )
    for what, functions in kinds.items():
        # One that names a card on purpose is not too much, but beside GPUs
        # it is, and so is a pattern that catches what nobody gives away.
        # Of bridges, none is meant: libvirt gives away endpoints only
        # (src/hypervisor/virhostdev.c, "Non-endpoint PCI devices").
        meant = what != "bridges" and (
            spec.product_id is not None or spec.exact_address is not None
        )
        if functions and (len(functions) < len(matched) or not meant):
            yield _finding(
                options,
                Severity.WARNING,
                f"this device_spec matches too much: {what}:"
                f" {_few(functions)}"
                + (f", beside {len(gpus)} GPUs" if gpus else ""),
                spec.text,
                ("# add vendor_id and product_id, or name addresses",),
            )
    ignored = [
        function for function in matched if function.address.domain > 0xFFFF
    ]
    if ignored:
        yield _finding(
            options,
            Severity.WARNING,
            f"Nova ignores devices in PCI domains above ffff: {_few(ignored)}",
            spec.text,
        )


def _needed_by_host(
    options: pci_options.PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Iterator[Finding]:
    """Find what the host itself needs among what is given away.

    However it is named: who names it on purpose wants to know, too.
    """
    reasons: dict[str, list[Function]] = {}
    for function in matched:
        if function.is_needed_by_host:
            reasons.setdefault(function.why_needed, []).append(function)
    for reason, functions in reasons.items():
        is_console = all(
            one.use is Use.CONSOLE for one in functions[0].host_uses
        )
        yield Finding(
            Severity.WARNING,
            _CHECK,
            "this device_spec matches too much: the display of the host's"
            f" console: {_few(functions)}"
            if is_console
            else "this device_spec takes what the host itself needs:"
            f" {_few(functions)}: {reason}",
            evidence=(
                Evidence(options.source, spec.text),
                *host_needs.evidence(functions[0]),
            ),
            cures=(
                "# name the devices for guests only: nova-gpu-host config"
                " writes their device_spec",
                *host_needs.cures(functions[0]),
            ),
        )


def _pf_with_vfs(
    options: pci_options.PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Iterator[Finding]:
    vfs_by_pf = collections.defaultdict(list)
    for one in matched:
        if one.physfn is not None:
            vfs_by_pf[one.physfn].append(one)
    for function in matched:
        vfs = vfs_by_pf.get(function.address)
        if not vfs:
            continue
        if spec.tags.get("physical_network") or not (
            options.report_in_placement
        ):
            severity = Severity.WARNING
            text = "of which Nova can give away only the one or the others"
        else:
            severity = Severity.ERROR
            text = (
                "which Placement cannot hold together: nova-compute reports"
                " no PCI devices"
            )
        same = vfs[0].product_id == function.product_id
        yield _finding(
            options,
            severity,
            f"this device_spec matches too much: a PF and {len(vfs)} of its"
            f" VFs, {text}",
            spec.text,
            (
                "# the VFs have the PF's product id: name the addresses of"
                " the VFs"
                if same
                else "# add the product_id of what is to be offered:"
                f" {function.product_id:04x} (PF) or"
                f" {vfs[0].product_id:04x} (VFs)",
            ),
            device=function.address,
        )


def _providers(
    options: pci_options.PciOptions, taken: list[tuple[Function, DeviceSpec]]
) -> Iterator[Finding]:
    """Find VFs of one PF that specs describe differently.

    One PF is one resource provider, so its VFs must have one resource class
    and one set of traits.
    """
    by_pf: dict[PciAddress, list[tuple[Function, DeviceSpec]]] = {}
    for function, spec in taken:
        if spec.tags.get("physical_network"):
            # Not reported to Placement.
            continue
        by_pf.setdefault(function.physfn or function.address, []).append(
            (function, spec)
        )
    for pf, members in by_pf.items():
        classes = sorted(
            {
                spec.resource_class_for(one.vendor_id, one.product_id)
                for one, spec in members
            }
        )
        traits = {spec.normalized_traits for _, spec in members}
        for what, several in (
            ("resource classes " + ", ".join(classes), len(classes) > 1),
            ("sets of traits", len(traits) > 1),
        ):
            if several:
                yield _finding(
                    options,
                    Severity.ERROR
                    if options.report_in_placement
                    else Severity.WARNING,
                    f"devices of one PF have different {what}: Placement has"
                    " one resource provider for them",
                    members[-1][1].text,
                    (
                        "# give all VFs of a PF the same resource_class"
                        " and traits",
                    ),
                    device=pf,
                )
        kinds = {function.physfn is None for function, _ in members}
        texts = {spec.text for _, spec in members}
        if len(kinds) > 1 and len(texts) > 1:
            yield _finding(
                options,
                Severity.ERROR
                if options.report_in_placement
                else Severity.WARNING,
                "a PF and its VFs are matched, by different device specs:"
                " Placement cannot hold both",
                members[-1][1].text,
                device=pf,
            )


def _can_be_read(spec: DeviceSpec) -> bool:
    """Tell whether a spec has links, and such as need no further word."""
    if codec.TAG not in spec.tags:
        return False
    try:
        codec.parse_text("device_spec", str(spec.tags[codec.TAG]))
    except codec.LinkTextError:
        return False
    return True


def _links(
    options: pci_options.PciOptions, taken: list[tuple[Function, DeviceSpec]]
) -> Iterator[Finding]:
    """Check that the links of the devices fit together."""
    linked = sorted(
        ((function, spec) for function, spec in taken if _can_be_read(spec)),
        key=lambda pair: pair[0].address,
    )
    try:
        host_topologies.build_from_pools(
            [
                (
                    str(function.address),
                    str(spec.tags[codec.TAG]),
                    function.numa_node,
                )
                for function, spec in linked
            ]
        )
    except codec.LinkTextError as error:
        yield _finding(options, Severity.ERROR, str(error), codec.TAG)
    texts: dict[str, list[Function]] = {}
    for function, spec in linked:
        texts.setdefault(spec.text, []).append(function)
    for text, functions in texts.items():
        if len(functions) > 1:
            yield _finding(
                options,
                Severity.WARNING,
                "one device_spec gives the same gpu_links to"
                f" {_few(functions)}: also the fabric partitions of one GPU",
                text,
                ("nova-gpu-host config  # one device_spec a device",),
            )


def _left_out(
    options: pci_options.PciOptions,
    host: Inventory,
    taken: list[tuple[Function, DeviceSpec]],
) -> Iterator[Finding]:
    offered: set[PciAddress | None] = {
        function.address for function, _ in taken
    }
    offered |= {function.physfn for function, _ in taken if function.physfn}
    for carrier in conf_mdevs.find_carriers(host, options):
        offered |= {carrier.address, carrier.physfn}
    for gpu in host.gpus:
        if gpu.address not in offered and not gpu.is_needed_by_host:
            yield _finding(
                options,
                Severity.WARNING,
                f"no device_spec matches this {gpu.product or gpu.ids}",
                "[pci]device_spec",
                ("nova-gpu-host config",),
                device=gpu.address,
            )
