# SPDX-License-Identifier: Apache-2.0

"""Can the IOMMU group of a device be given away, and to whom.

Source: the kernel's drivers/vfio/vfio_iommu_type1.c and drivers/iommu/iommu.c
(which groups are viable).
"""

from collections.abc import Iterator

from nova_gpu_filter.host import drivers
from nova_gpu_filter.host import reader
from nova_gpu_filter.host.context import Context
from nova_gpu_filter.host.findings import Evidence
from nova_gpu_filter.host.findings import Finding
from nova_gpu_filter.host.findings import Severity
from nova_gpu_filter.host.inventory import Function


def check(context: Context, function: Function) -> Iterator[Finding]:
    """Check that the IOMMU group can be given away, and to whom."""
    host = context.host
    if function.iommu_group is None:
        if host.members_by_group or context.tree.entries(reader.GROUPS):
            yield Finding(
                Severity.ERROR,
                "group",
                "the device is in no IOMMU group",
                device=str(function.address),
                evidence=(
                    Evidence(
                        f"{reader.DEVICES}/{function.address}/iommu_group",
                        None,
                    ),
                ),
            )
        return
    card = {one.address for one in host.card(function)}
    others = [
        member
        for member in host.members_by_group.get(function.iommu_group, ())
        if not member.is_bridge and member.address not in card
    ]
    if not others:
        return
    in_use = [
        member
        for member in others
        if member.driver is not None
        and member.driver not in drivers.VFIO_DRIVERS
        and member.driver not in drivers.HARMLESS
    ]
    names = ", ".join(
        f"{member.address} ({member.class_name or member.ids})"
        for member in others
    )
    evidence = tuple(
        Evidence(
            f"{reader.GROUPS}/{function.iommu_group}/devices/{member.address}",
            f"{member.ids} {member.driver or 'no driver'}",
        )
        for member in others
    )
    separate = (
        "# switch on ACS in the firmware's setup, or move the card to a slot"
        " with a root port of its own",
    )
    if in_use:
        yield Finding(
            Severity.ERROR,
            "group",
            f"IOMMU group {function.iommu_group} has other devices that the"
            f" host uses: {names}; the kernel refuses to give away the group",
            device=str(function.address),
            evidence=evidence,
            cures=(
                *separate,
                "# or, if the host can do without them, bind them to"
                " vfio-pci:",
                *(
                    command
                    for member in in_use
                    for command in drivers.bind_to_vfio(
                        member.address, member.driver, member.ids
                    )
                ),
            ),
        )
    else:
        yield Finding(
            Severity.WARNING,
            "group",
            f"IOMMU group {function.iommu_group} has other devices: {names};"
            " two guests cannot have one each",
            device=str(function.address),
            evidence=evidence,
            cures=(
                *separate,
                "# or offer only one of them, or flavors that ask for all",
            ),
        )
