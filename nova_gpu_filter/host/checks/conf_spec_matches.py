# SPDX-License-Identifier: Apache-2.0

"""Does a device spec match more than what is for guests?

What Nova does with such devices: nova/pci/manager.py (which it tracks) and
nova/compute/pci_placement_translator.py (the errors that stop nova-compute).
"""

import collections
from collections.abc import Callable

from nova_gpu_filter.host.checks import host_needs
from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.conf_findings import name_functions
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.nova_rules.pci_options import PciOptions

_KINDS: dict[str, Callable[[Function], bool]] = {
    "network cards": lambda one: one.kind is Kind.NIC,
    "other functions of a card": lambda one: one.kind is Kind.FUNCTION,
    "bridges": lambda one: one.is_bridge,
    "devices that are neither GPU nor network card": lambda one: (
        one.kind is None and not one.is_bridge
    ),
}


def check(
    options: PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Findings:
    """Check what a device spec takes.

    :param matched: the devices that it is the first to match.
    """
    yield from _check_pf_with_vfs(options, spec, matched)
    yield from _check_needed_by_host(options, spec, matched)
    kinds = {
        what: [function for function in matched if is_such(function)]
        for what, is_such in _KINDS.items()
    }
    gpus = [function for function in matched if function.kind is Kind.GPU]
    if gpus and spec.tags.get("physical_network"):
        yield CHECK.warning(
            "physical_network is for network cards: with it no alias reaches"
            f" {name_functions(gpus)}, only ports of Neutron do",
            Evidence(options.source, spec.text),
            cures=("# take physical_network out of the device_spec of GPUs",),
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
            yield CHECK.warning(
                f"this device_spec matches too much: {what}:"
                f" {name_functions(functions)}"
                + (f", beside {len(gpus)} GPUs" if gpus else ""),
                Evidence(options.source, spec.text),
                cures=("# add vendor_id and product_id, or name addresses",),
            )
    ignored = [
        function for function in matched if function.address.domain > 0xFFFF
    ]
    if ignored:
        yield CHECK.warning(
            "Nova ignores devices in PCI domains above ffff:"
            f" {name_functions(ignored)}",
            Evidence(options.source, spec.text),
        )


def _check_needed_by_host(
    options: PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Findings:
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
        yield CHECK.warning(
            "this device_spec matches too much: the display of the host's"
            f" console: {name_functions(functions)}"
            if is_console
            else "this device_spec takes what the host itself needs:"
            f" {name_functions(functions)}: {reason}",
            Evidence(options.source, spec.text),
            *host_needs.list_evidence(functions[0]),
            cures=(
                "# name the devices for guests only: nova-gpu-host config"
                " writes their device_spec",
                *host_needs.list_cures(functions[0]),
            ),
        )


def _check_pf_with_vfs(
    options: PciOptions, spec: DeviceSpec, matched: list[Function]
) -> Findings:
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
        yield CHECK.report(
            severity,
            f"this device_spec matches too much: a PF and {len(vfs)} of its"
            f" VFs, {text}",
            Evidence(options.source, spec.text),
            device=function.address,
            cures=(
                "# the VFs have the PF's product id: name the addresses of"
                " the VFs"
                if same
                else "# add the product_id of what is to be offered:"
                f" {function.product_id:04x} (PF) or"
                f" {vfs[0].product_id:04x} (VFs)",
            ),
        )
