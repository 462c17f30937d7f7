# SPDX-License-Identifier: Apache-2.0

"""Can the IOMMU group of a device be given away, and to whom.

Source: the kernel's drivers/vfio/vfio_iommu_type1.c and drivers/iommu/iommu.c
(which groups are viable).
"""

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import GroupMember
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import host_use

_GROUP = Reporter("group")

# The type of reserved regions (iommu_group_resv_type_string in
# drivers/iommu/iommu.c) with which a group cannot have a domain of its own
# (require_direct there). Not so: direct-relaxable (of GPUs and USB, only until
# their drivers start), reserved, msi.
_REFUSED_REGION = "direct"


def check(context: Context, function: Function) -> Findings:
    """Check that the IOMMU group can be given away, and to whom."""
    host = context.host
    if function.iommu_group is None:
        if host.members_by_group or context.tree.list_entries(
            device_paths.GROUPS
        ):
            yield _GROUP.error(
                "the device is in no IOMMU group",
                Evidence(f"{function.address.path}/iommu_group", None),
                device=function.address,
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
    group = f"IOMMU group {function.iommu_group}"
    names = ", ".join(
        f"{member.address} ({member.class_name or member.ids})"
        for member in others
    )
    folder = f"{device_paths.GROUPS}/{function.iommu_group}/devices"
    evidence = [
        Evidence(
            f"{folder}/{member.address}",
            f"{member.ids} {member.driver or 'no driver'}",
        )
        for member in others
    ]
    cures = [
        "# switch on ACS in the firmware's setup, or move the card to a slot"
        " with a root port of its own"
    ]
    if not in_use:
        cures.append(
            "# or offer only one of them, or flavors that ask for all"
        )
        yield _GROUP.warning(
            f"{group} has other devices: {names}; two guests cannot have one"
            " each",
            *evidence,
            device=function.address,
            cures=cures,
        )
        return
    needed = [one for one in in_use if _is_needed(context, one)]
    cures += [f"# the host itself needs {one.address}" for one in needed]
    # No command takes the host's own disk or network away from it.
    if not needed:
        cures.append(
            "# or, if the host can do without them, bind them to vfio-pci:"
        )
        for one in in_use:
            cures += drivers.bind_to_vfio(one.address, one.driver, one.ids)
    yield _GROUP.error(
        f"{group} has other devices that the host uses: {names}; the kernel"
        " refuses to give away the group",
        *evidence,
        device=function.address,
        cures=cures,
    )


def _is_needed(context: Context, member: GroupMember) -> bool:
    vendor, product = (int(part, 16) for part in member.ids.split(":"))
    return bool(
        host_use.HostUses(context.tree).find(
            member.address, vendor, product, member.class_code
        )
    )


def _check_reserved(context: Context, function: Function) -> Findings:
    """Check for memory that the firmware wants mapped one to one."""
    path = f"{device_paths.GROUPS}/{function.iommu_group}/reserved_regions"
    text = context.tree.read(path) or ""
    lines = text.splitlines()
    regions = [one for one in lines if one.split()[2:3] == [_REFUSED_REGION]]
    if regions:
        yield _GROUP.error(
            f"the firmware wants memory of IOMMU group {function.iommu_group}"
            " mapped one to one (RMRR), and the kernel refuses to give such a"
            " group to a guest",
            *(Evidence(path, region) for region in regions),
            device=function.address,
            cures=(
                "# switch off what shares memory with the slot in the"
                ' firmware\'s setup (HPE: "Shared Memory Features", conrep'
                " for the slot), update the firmware, or use another slot;"
                " then reboot",
            ),
        )
