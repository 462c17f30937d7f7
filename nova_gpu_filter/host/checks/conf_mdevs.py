# SPDX-License-Identifier: Apache-2.0

"""Holds the types of mediated devices of a nova.conf against the hardware.

What Nova does with them: ``_get_supported_vgpu_types`` of
nova/virt/libvirt/driver.py (the errors that stop nova-compute, and a default
type that only one can be).
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import re

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.configuration import mediated
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import MdevType
from nova_gpu_filter.nova_rules.pci_options import MdevGroup
from nova_gpu_filter.nova_rules.pci_options import PciOptions


def check(host: Inventory, options: PciOptions) -> Findings:
    """Check ``[devices]enabled_mdev_types`` and the groups of the types."""
    by_type: dict[str, list[Function]] = {}
    for function in host.functions:
        for one in function.mdev_types:
            by_type.setdefault(one.type_id, []).append(function)
    owner: dict[str, str] = {}
    default: str | None = None
    for group in options.mdev_groups:
        report = functools.partial(_make_finding, options, group)
        offering = by_type.get(group.type_id, [])
        if not offering:
            yield report(
                Severity.WARNING,
                f"no device of this host offers {group.type_id}; these are"
                f" offered: {', '.join(sorted(by_type)) or 'none'}",
                f"# take {group.type_id} out of"
                f" [devices]enabled_mdev_types in {options.source}",
            )
        for text in group.device_addresses:
            if offering:
                yield from _check_address(host, group, text, report)
            if text in owner:
                yield report(
                    Severity.ERROR,
                    f"{text} carries {owner[text]} already: nova-compute does"
                    " not start",
                )
            owner.setdefault(text, group.type_id)
        if not group.device_addresses:
            if default is not None:
                yield report(
                    Severity.WARNING,
                    f"Nova does not use {group.type_id}: without"
                    f" device_addresses {default} is the type of all devices"
                    " that no group names, and there is one such only",
                )
            default = default or group.type_id
    for group, function, mdev_type in find_carried(host, options):
        if mdev_type.available == 0 and not mdev_type.made:
            yield _describe_exhausted(options, group, function)


def find_carried(
    host: Inventory, options: PciOptions
) -> Iterator[tuple[MdevGroup, Function, MdevType]]:
    """Yield each device with the type that Nova has it carry."""
    by_address: dict[str, MdevGroup] = {}
    default: MdevGroup | None = None
    for group in options.mdev_groups:
        for text in group.device_addresses:
            by_address.setdefault(text, group)
        if not group.device_addresses:
            default = default or group
    for function in host.functions:
        chosen = by_address.get(str(function.address), default)
        for one in function.mdev_types:
            if chosen is not None and one.type_id == chosen.type_id:
                yield chosen, function, one


def _describe_exhausted(
    options: PciOptions, group: MdevGroup, function: Function
) -> Finding:
    """Tell that Nova cannot make any, and has none, of a type."""
    others = [one for one in function.mdev_types if one.made]
    carried = ", ".join(f"{len(one.made)} of {one.type_id}" for one in others)
    return _make_finding(
        options,
        group,
        Severity.WARNING,
        f"{function.address} can have no more {group.type_id}"
        + (
            f" beside the mediated devices that there are, {carried}"
            if others
            else ", and there are no mediated devices of it: its driver makes"
            " none now"
        )
        + "; Nova reports none of it",
        # In this order libvirt sees to it that no guest has it.
        *(
            f"virsh nodedev-{action} {_name_in_libvirt(uuid, function)}"
            for one in others
            for uuid in one.made
            for action in ("destroy", "undefine")
        ),
        *(() if others else ("# look for the reason: dmesg",)),
    )


def _name_in_libvirt(uuid: str, parent: Function) -> str:
    """Name a mediated device as libvirt does since 7.3."""
    return re.sub("[^0-9A-Za-z]", "_", f"mdev_{uuid}_{parent.address}")


def _check_address(
    host: Inventory,
    group: MdevGroup,
    text: str,
    report: Callable[..., Finding],
) -> Findings:
    address = address_lib.find(text)
    if address is None:
        # The parents of some drivers are no PCI devices, and Nova takes the
        # names that libvirt has for them.
        return
    function = host.by_address.get(address)
    if str(address) != text:
        yield report(
            Severity.WARNING,
            f"Nova compares addresses as text, and {text} is {address} in"
            " libvirt",
        )
    elif function is None or all(
        one.type_id != group.type_id for one in function.mdev_types
    ):
        yield report(
            Severity.WARNING,
            f"{text} does not offer {group.type_id}"
            if function
            else f"{text} is no GPU of this host",
        )


def _write_anew(options: PciOptions, group: MdevGroup) -> str:
    command = f"nova-gpu-host config {mediated.OPTION}"
    if all(one.type_id == group.type_id for one in options.mdev_groups):
        return f"{command} {group.type_id}"
    # Which device carries which type is the operator's choice.
    return f"# write all types anew: {command} TYPE=ADDRESS,... for each"


def _make_finding(
    options: PciOptions,
    group: MdevGroup,
    severity: Severity,
    summary: str,
    *cures: str,
) -> Finding:
    return CHECK.report(
        severity,
        summary,
        Evidence(
            options.source,
            f"[mdev_{group.type_id}]device_addresses ="
            f" {','.join(group.device_addresses)}",
        ),
        cures=cures or (_write_anew(options, group),),
    )
