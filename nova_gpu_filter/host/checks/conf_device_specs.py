# SPDX-License-Identifier: Apache-2.0

"""Holds the device specs of a nova.conf against the hardware.

What Nova does with them: nova/pci/manager.py (which devices it tracks),
nova/pci/stats.py (pools), nova/compute/pci_placement_translator.py (resource
providers; the errors that stop nova-compute).
"""

import collections

from nova_gpu_filter.host.checks import conf_aliases
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks import conf_spec_matches
from nova_gpu_filter.host.checks import conf_vfs
from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.conf_findings import Taken
from nova_gpu_filter.host.checks.conf_findings import name_functions
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.nova_rules.pci_options import PciOptions
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import host_topologies


def check(
    host: Inventory, everything: tuple[Function, ...], options: PciOptions
) -> Findings:
    """Check the device specs of a compute node.

    :param everything: all PCI functions of the host, also those that are of
        no interest otherwise: a spec may match a disk.
    """
    if not options.device_specs:
        yield CHECK.report(
            # A host may be there for mediated devices alone.
            Severity.ERROR
            if host.gpus and not options.mdev_groups
            else Severity.NOTE,
            "[pci]device_spec is not set: Nova gives no device to a guest",
            Evidence(options.source, "[pci]"),
            cures=("nova-gpu-host config",),
        )
        yield from conf_aliases.check(options, host, ())
        return
    specs: list[DeviceSpec] = []
    for text in options.device_specs:
        try:
            specs.extend(device_spec.parse(text))
        except device_spec.SpecError as error:
            yield CHECK.error(
                f"Nova refuses this device_spec, and nova-compute does not"
                f" start: {error}",
                Evidence(options.source, text),
            )
    matches = _assign(everything, specs)
    for spec, matched in zip(specs, matches, strict=True):
        yield from _check_spec(options, everything, spec, matched)
    taken = [
        (function, spec)
        for spec, matched in zip(specs, matches, strict=True)
        for function in matched
    ]
    yield from _check_providers(options, taken)
    yield from _check_links(options, taken)
    yield from _check_left_out(options, host, taken)
    yield from conf_vfs.check(options, taken)
    yield from conf_aliases.check(options, host, taken)


def _assign(
    everything: tuple[Function, ...], specs: list[DeviceSpec]
) -> list[list[Function]]:
    """Give each device to the first spec that matches it, as Nova does.

    :returns: the devices of each spec.
    """
    by_address = {function.address: function for function in everything}
    interfaces = {
        name: function
        for function in everything
        for name in function.interfaces
    }
    found: list[list[Function]] = [[] for _ in specs]
    for function in everything:
        parent = by_address.get(function.physfn) if function.physfn else None
        for spec, matched in zip(specs, found, strict=True):
            if spec.matches(function, parent, interfaces):
                matched.append(function)
                break
    return found


def _check_spec(
    options: PciOptions,
    everything: tuple[Function, ...],
    spec: DeviceSpec,
    matched: list[Function],
) -> Findings:
    if spec.devname is not None and options.report_in_placement:
        yield CHECK.error(
            "devname and report_in_placement exclude each other:"
            " nova-compute does not start",
            Evidence(options.source, spec.text),
            cures=("# name the device by its address",),
        )
    if spec.doubled:
        yield CHECK.warning(
            f"{', '.join(spec.doubled)} stands twice in this device_spec: the"
            " last one counts",
            Evidence(options.source, spec.text),
            cures=("# write each key once",),
        )
    yield from _check_tags(options, spec)
    if not matched:
        again = _assign(everything, [spec])[0]
        yield CHECK.warning(
            "this device_spec matches nothing"
            if not again
            else "this device_spec adds nothing: earlier ones match"
            f" {name_functions(again)}",
            Evidence(options.source, spec.text),
            cures=("lspci -nnD  # compare ids and addresses",),
        )
        return
    yield from conf_spec_matches.check(options, spec, matched)


def _check_tags(options: PciOptions, spec: DeviceSpec) -> Findings:
    known = device_spec.NOVA_TAGS | device_spec.OUR_TAGS
    unknown = sorted(set(spec.tags) - known)
    if unknown:
        yield CHECK.warning(
            f"unknown tag {', '.join(unknown)}: Nova puts it into the pools,"
            " where only an alias that asks for the same value can match;"
            " a misspelt tag is such a one",
            Evidence(options.source, spec.text),
            cures=(f"# known are {', '.join(sorted(known))}",),
        )
    spaced = [trait for trait in spec.traits if trait != trait.strip()]
    if spaced:
        yield CHECK.warning(
            f"a space beside the comma becomes part of the trait:"
            f" '{spaced[0]}'",
            Evidence(options.source, spec.text),
            cures=("# write traits with commas only",),
        )
    error = _find_link_error(spec)
    if error is not None and spec.tags[codec.TAG] is not None:
        yield CHECK.error(str(error), Evidence(options.source, spec.text))
    if spec.tags.get("one_time_use") and not options.report_in_placement:
        yield CHECK.error(
            "one_time_use needs [pci]report_in_placement: nova-compute does"
            " not start",
            Evidence(options.source, spec.text),
        )


def _check_providers(options: PciOptions, taken: Taken) -> Findings:
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
        shown = Evidence(options.source, members[-1][1].text)
        different = []
        if len(classes) > 1:
            different.append(f"resource classes {', '.join(classes)}")
        if len({spec.reported_traits for _, spec in members}) > 1:
            different.append("sets of traits")
        for what in different:
            yield CHECK.report(
                severity,
                f"devices of one PF have different {what}: Placement has one"
                " resource provider for them",
                shown,
                device=pf,
                cures=(
                    "# give all VFs of a PF the same resource_class and"
                    " traits",
                ),
            )
        kinds = {function.physfn is None for function, _ in members}
        texts = {spec.text for _, spec in members}
        if len(kinds) > 1 and len(texts) > 1:
            yield CHECK.report(
                severity,
                "a PF and its VFs are matched, by different device specs:"
                " Placement cannot hold both",
                shown,
                device=pf,
            )


def _find_link_error(spec: DeviceSpec) -> codec.LinkTextError | None:
    """Find why the links of a spec cannot be read; None: they can."""
    if codec.TAG in spec.tags:
        try:
            codec.parse_text("device_spec", str(spec.tags[codec.TAG]))
        except codec.LinkTextError as error:
            return error
    return None


def _check_links(options: PciOptions, taken: Taken) -> Findings:
    """Check that the links of the devices fit together."""
    linked = sorted(
        (
            (function, spec)
            for function, spec in taken
            if codec.TAG in spec.tags and _find_link_error(spec) is None
        ),
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
        yield CHECK.error(str(error), Evidence(options.source, codec.TAG))
    texts: dict[str, list[Function]] = {}
    for function, spec in linked:
        texts.setdefault(spec.text, []).append(function)
    for text, functions in texts.items():
        if len(functions) > 1:
            yield CHECK.warning(
                "one device_spec gives the same gpu_links to"
                f" {name_functions(functions)}: also the fabric partitions of"
                " one GPU",
                Evidence(options.source, text),
                cures=("nova-gpu-host config  # one device_spec a device",),
            )


def _check_left_out(
    options: PciOptions, host: Inventory, taken: Taken
) -> Findings:
    given = [
        *(function for function, _ in taken),
        *(one for _, one, _ in conf_mdevs.find_carried(host, options)),
    ]
    offered = {one.address for one in given} | {one.physfn for one in given}
    for gpu in host.gpus:
        if gpu.address not in offered and not gpu.is_needed_by_host:
            yield CHECK.warning(
                f"no device_spec matches this {gpu.product or gpu.ids}",
                Evidence(options.source, "[pci]device_spec"),
                device=gpu.address,
                cures=("nova-gpu-host config",),
            )
