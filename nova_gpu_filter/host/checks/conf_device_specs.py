# SPDX-License-Identifier: Apache-2.0

"""Holds the device specs of a nova.conf against the hardware.

What Nova does with them: nova/pci/manager.py (which devices it tracks),
nova/pci/stats.py (pools), nova/compute/pci_placement_translator.py (resource
providers; the errors that stop nova-compute).
"""

import collections
from collections.abc import Iterator

from nova_gpu_filter.host.checks import conf_aliases
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks import conf_spec_matches
from nova_gpu_filter.host.checks import conf_vfs
from nova_gpu_filter.host.checks.conf_findings import Taken
from nova_gpu_filter.host.checks.conf_findings import make_finding
from nova_gpu_filter.host.checks.conf_findings import name_functions
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import host_topologies


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
        yield make_finding(
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
            yield make_finding(
                options,
                Severity.ERROR,
                f"Nova refuses this device_spec, and nova-compute does not"
                f" start: {error}",
                text,
            )
    matches = _assign(everything, specs)
    for index, spec in enumerate(specs):
        yield from _check_spec(options, everything, spec, matches[index])
    taken = [
        (function, specs[index])
        for index, functions in matches.items()
        for function in functions
    ]
    yield from _check_providers(options, taken)
    yield from _check_links(options, taken)
    yield from _check_left_out(options, host, taken)
    yield from conf_vfs.check(options, taken)
    yield from conf_aliases.check(options, host, taken)


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


def _check_spec(
    options: pci_options.PciOptions,
    everything: tuple[Function, ...],
    spec: DeviceSpec,
    matched: list[Function],
) -> Iterator[Finding]:
    if spec.devname is not None and options.report_in_placement:
        yield make_finding(
            options,
            Severity.ERROR,
            "devname and report_in_placement exclude each other:"
            " nova-compute does not start",
            spec.text,
            ("# name the device by its address",),
        )
    if spec.doubled:
        yield make_finding(
            options,
            Severity.WARNING,
            f"{', '.join(spec.doubled)} stands twice in this device_spec: the"
            " last one counts",
            spec.text,
            ("# write each key once",),
        )
    yield from _check_tags(options, spec)
    if not matched:
        again = _assign(everything, [spec])[0]
        yield make_finding(
            options,
            Severity.WARNING,
            "this device_spec matches nothing"
            if not again
            else "this device_spec adds nothing: earlier ones match"
            f" {name_functions(again)}",
            spec.text,
            ("lspci -nnD  # compare ids and addresses",),
        )
        return
    yield from conf_spec_matches.check(options, spec, matched)


def _check_tags(
    options: pci_options.PciOptions, spec: DeviceSpec
) -> Iterator[Finding]:
    unknown = sorted(
        set(spec.tags) - device_spec.NOVA_TAGS - device_spec.OUR_TAGS
    )
    if unknown:
        yield make_finding(
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
        yield make_finding(
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
            yield make_finding(options, Severity.ERROR, str(error), spec.text)
    if spec.tags.get("one_time_use") and not options.report_in_placement:
        yield make_finding(
            options,
            Severity.ERROR,
            "one_time_use needs [pci]report_in_placement: nova-compute does"
            " not start",
            spec.text,
        )


def _check_providers(
    options: pci_options.PciOptions, taken: Taken
) -> Iterator[Finding]:
    """Find VFs of one PF that specs describe differently.

    One PF is one resource provider, so its VFs must have one resource class
    and one set of traits.
    """
    severity = (
        Severity.ERROR if options.report_in_placement else Severity.WARNING
    )
    by_pf = collections.defaultdict(list)
    for function, spec in taken:
        if spec.tags.get("physical_network"):
            # Not reported to Placement.
            continue
        by_pf[function.physfn or function.address].append((function, spec))
    for pf, members in by_pf.items():
        classes = sorted(
            {
                spec.get_resource_class(one.vendor_id, one.product_id)
                for one, spec in members
            }
        )
        traits = {spec.reported_traits for _, spec in members}
        for what, several in (
            ("resource classes " + ", ".join(classes), len(classes) > 1),
            ("sets of traits", len(traits) > 1),
        ):
            if several:
                yield make_finding(
                    options,
                    severity,
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
            yield make_finding(
                options,
                severity,
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


def _check_links(
    options: pci_options.PciOptions, taken: Taken
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
        yield make_finding(options, Severity.ERROR, str(error), codec.TAG)
    texts: dict[str, list[Function]] = {}
    for function, spec in linked:
        texts.setdefault(spec.text, []).append(function)
    for text, functions in texts.items():
        if len(functions) > 1:
            yield make_finding(
                options,
                Severity.WARNING,
                "one device_spec gives the same gpu_links to"
                f" {name_functions(functions)}: also the fabric partitions of"
                " one GPU",
                text,
                ("nova-gpu-host config  # one device_spec a device",),
            )


def _check_left_out(
    options: pci_options.PciOptions,
    host: Inventory,
    taken: Taken,
) -> Iterator[Finding]:
    given = [
        *(function for function, _ in taken),
        *conf_mdevs.find_carriers(host, options),
    ]
    offered = {one.address for one in given} | {one.physfn for one in given}
    for gpu in host.gpus:
        if gpu.address not in offered and not gpu.is_needed_by_host:
            yield make_finding(
                options,
                Severity.WARNING,
                f"no device_spec matches this {gpu.product or gpu.ids}",
                "[pci]device_spec",
                ("nova-gpu-host config",),
                device=gpu.address,
            )
