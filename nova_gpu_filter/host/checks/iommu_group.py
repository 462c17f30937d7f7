# SPDX-License-Identifier: Apache-2.0

"""Can the IOMMU group of a device be given away, and to whom.

Source: the kernel's drivers/vfio/vfio_iommu_type1.c and drivers/iommu/iommu.c
(which groups are viable).
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import GroupMember
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import host_use

# Types of reserved regions (iommu_group_resv_type_string in
# drivers/iommu/iommu.c) for which a group cannot have a domain of its own
# (require_direct there). Not among them: direct-relaxable (of GPUs and USB,
# only until their drivers start), reserved, msi.
_REFUSED_REGIONS = frozenset({"direct"})


def check(context: Context, function: Function) -> Iterator[Finding]:
    """Check that the IOMMU group can be given away, and to whom."""
    host = context.host
    if function.iommu_group is None:
        if host.members_by_group or context.tree.list_entries(
            device_paths.GROUPS
        ):
            yield Finding(
                Severity.ERROR,
                "group",
                "the device is in no IOMMU group",
                device=str(function.address),
                evidence=(
                    Evidence(
                        f"{function.address.path}/iommu_group",
                        None,
                    ),
                ),
            )
        return
    yield from _check_reserved(context, function)
    card = {one.address for one in host.list_card_functions(function)}
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
            f"{device_paths.GROUPS}/{function.iommu_group}/devices/{member.address}",
            f"{member.ids} {member.driver or 'no driver'}",
        )
        for member in others
    )
    separate = (
        "# switch on ACS in the firmware's setup, or move the card to a slot"
        " with a root port of its own",
    )
    if in_use:
        # No command takes the host's own disk or network away from it.
        needed = [one for one in in_use if _is_needed(context, one)]
        yield Finding(
            Severity.ERROR,
            "group",
            f"IOMMU group {function.iommu_group} has other devices that the"
            f" host uses: {names}; the kernel refuses to give away the group",
            device=str(function.address),
            evidence=evidence,
            cures=(
                *separate,
                *(
                    f"# the host itself needs {member.address}"
                    for member in needed
                ),
                *(
                    ()
                    if needed
                    else (
                        "# or, if the host can do without them, bind them to"
                        " vfio-pci:",
                    )
                ),
                *(
                    command
                    for member in in_use
                    if not needed
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


def _is_needed(context: Context, member: GroupMember) -> bool:
    vendor, product = (int(part, 16) for part in member.ids.split(":"))
    return bool(
        host_use.HostUses(context.tree).find(
            member.address, vendor, product, member.class_code
        )
    )


def _check_reserved(context: Context, function: Function) -> Iterator[Finding]:
    """Check for memory that the firmware wants mapped one to one."""
    path = f"{device_paths.GROUPS}/{function.iommu_group}/reserved_regions"
    text = context.tree.read(path) or ""
    regions = [
        line
        for line in text.splitlines()
        if line.split()[2:] and line.split()[2] in _REFUSED_REGIONS
    ]
    if regions:
        yield Finding(
            Severity.ERROR,
            "group",
            f"the firmware wants memory of IOMMU group {function.iommu_group}"
            " mapped one to one (RMRR), and the kernel refuses to give such a"
            " group to a guest",
            device=str(function.address),
            evidence=tuple(Evidence(path, region) for region in regions),
            cures=(
                "# switch off what shares memory with the slot in the"
                ' firmware\'s setup (HPE: "Shared Memory Features", conrep'
                " for the slot), update the firmware, or use another slot;"
                " then reboot",
            ),
        )
