# SPDX-License-Identifier: Apache-2.0

"""Makes an inventory of sysfs.

Files and their meaning: the kernel's Documentation/ABI/testing/sysfs-bus-pci,
sysfs-kernel-iommu_groups, sysfs-bus-vfio-mdev and Documentation/PCI/sysfs-pci.
All of them can be read without root.
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import GroupMember
from nova_gpu_filter.host.inventory import HostUse
from nova_gpu_filter.host.inventory import Inventory
from nova_gpu_filter.host.inventory import IommuGroup
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.inventory import MdevType
from nova_gpu_filter.host.inventory import PcieLink
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.sysfs import board_devices
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import host_consoles
from nova_gpu_filter.host.sysfs import host_use
from nova_gpu_filter.host.sysfs import pci_config
from nova_gpu_filter.host.sysfs import pci_functions
from nova_gpu_filter.host.sysfs import pci_ids
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.host.vgpu import types


def read(
    tree: tree_lib.Tree,
    names: pci_ids.Names | None = None,
    everything: bool = False,
) -> Inventory:
    """Read the inventory of the host whose files are in ``tree``.

    A device that cannot be read is left out, and said so in ``problems``.

    :param names: the database of names; None looks for one below the root and
        then on this machine.
    :param everything: read also what is of no interest: disks, bridges.
    """
    if names is None:
        names = pci_ids.load(tree, tree_lib.Tree())
    found, problems = pci_functions.read(tree)
    kinds = pci_functions.choose_kinds(found)
    host_uses = host_use.HostUses(tree)
    functions = tuple(
        _read_function(seen, kinds.get(seen.address), names, host_uses)
        for seen in found
        if everything or seen.address in kinds
    )
    functions = _name_vgpu_types(tree, functions)
    if not tree.is_directory(address_lib.DEVICES):
        problems.append(
            f"{address_lib.DEVICES} is not there: this is no sysfs, or no PCI"
            " host"
        )
    try:
        numa_nodes = tree.read_node_list(paths.NODES)
    except ValueError as error:
        numa_nodes = ()
        problems.append(f"{paths.NODES}: {error}")
    problems.extend(
        f"{path}: {error}" for path, error in sorted(tree.problems.items())
    )
    return Inventory(
        hostname=tree.read(paths.HOSTNAME)
        or tree.read(paths.HOSTNAME_FILE)
        or "unknown",
        functions=functions,
        groups=_read_groups(found, functions, names),
        numa_nodes=numa_nodes,
        kernel=tree.read(paths.RELEASE),
        names_from=names.source or None,
        problems=tuple(problems),
    )


def read_others(tree: tree_lib.Tree, known: Inventory) -> tuple[Function, ...]:
    """Read the functions that an inventory leaves out, but for bridges."""
    host_uses = host_use.HostUses(tree)
    found, _problems = pci_functions.read(tree, known.by_address)
    return tuple(
        _read_function(seen, None, pci_ids.EMPTY, host_uses)
        for seen in found
        if seen.class_code >> 16 != pci_functions.BRIDGE
    )


def _read_function(
    seen: pci_functions.PciFunction,
    kind: Kind | None,
    names: pci_ids.Names,
    host_uses: host_use.HostUses,
) -> Function:
    vendor, product = seen.vendor_id, seen.product_id
    subvendor = seen.read_number("subsystem_vendor")
    subproduct = seen.read_number("subsystem_device")
    override = seen.read_text("driver_override")
    numa = seen.read_number("numa_node")
    root, bridges = device_paths.read_bridges(seen.tree, seen.path)
    name = names.find_product(vendor, product)
    uses = host_uses.find(
        seen.address,
        vendor,
        product,
        seen.class_code,
        is_vf=seen.physfn is not None,
    )
    if seen.read_text("boot_vga") == "1":
        console = host_consoles.make_use(f"{seen.path}/boot_vga", "1")
        uses = (*uses, console)
    if not any(one.use is Use.CONSOLE for one in uses):
        # A console has been said, and is one while it has any driver.
        uses = (*uses, *_read_uses_of_processor(seen))
    return Function(
        address=seen.address,
        kind=kind,
        class_code=seen.class_code,
        vendor_id=vendor,
        product_id=product,
        subvendor_id=subvendor,
        subproduct_id=subproduct,
        revision=seen.read_number("revision"),
        class_name=names.find_device_class(seen.class_code >> 8),
        vendor_name=names.find_vendor(vendor),
        product_name=name,
        subsystem_name=None
        if subvendor is None or subproduct is None
        else names.find_subsystem(vendor, product, subvendor, subproduct),
        chip=chips.find(vendor, product, name) if kind is Kind.GPU else None,
        numa_node=None if numa is None or numa < 0 else numa,
        iommu_group=seen.iommu_group,
        driver=seen.driver,
        # The kernel prints a null pointer where none is set.
        driver_override=None if override in ("(null)", "") else override,
        sriov_totalvfs=seen.read_number("sriov_totalvfs"),
        sriov_numvfs=seen.read_number("sriov_numvfs"),
        vf_product_id=_read_vf_product(seen),
        physfn=seen.physfn,
        vfs=_read_vfs(seen),
        mdev_types=_read_mdev_types(seen),
        vgpu_type=_read_vgpu_type(seen),
        bars=pci_config.list_bars(seen.read_text("resource")),
        reset_methods=_read_reset_methods(seen),
        pcie_link=_read_pcie_link(seen),
        root=root,
        bridges=bridges,
        interfaces=seen.list_entries("net"),
        rdma_devices=seen.list_entries("infiniband"),
        modalias=seen.read_text("modalias"),
        power_state=seen.read_text("power_state"),
        is_boot_display=any(one.use is Use.CONSOLE for one in uses),
        host_uses=uses,
    )


def _read_uses_of_processor(
    seen: pci_functions.PciFunction,
) -> Iterator[HostUse]:
    """Find graphics of a processor that the host has as a display.

    They are for guests if they are bound to none of the row's drivers, or
    have VFs or mediated devices.
    """
    if (
        seen.class_code >> 16 != board_devices.DISPLAY
        or "mdev_supported_types" in seen.files
        or _list_virtfns(seen)
    ):
        return
    row = board_devices.find_processor(
        seen.address, seen.vendor_id, seen.product_id
    )
    if row is not None and seen.driver in row.drivers:
        yield HostUse(
            Use.PROCESSOR,
            f"it is the graphics of the processor ({row.name})",
            f"{seen.path}/driver",
            seen.driver,
        )


def _list_virtfns(seen: pci_functions.PciFunction) -> list[str]:
    """List the links of a PF to its VFs."""
    return [name for name in seen.files if name.startswith("virtfn")]


def _read_vfs(seen: pci_functions.PciFunction) -> tuple[PciAddress, ...]:
    targets = map(seen.read_link_name, _list_virtfns(seen))
    found = (address_lib.find(target or "") for target in targets)
    return tuple(sorted(filter(None, found)))


def _read_vf_product(seen: pci_functions.PciFunction) -> int | None:
    """Read ``sriov_vf_device``, which bears no ``0x``."""
    try:
        return int(seen.read_text("sriov_vf_device") or "", 16)
    except ValueError:
        return None


def _read_mdev_types(
    seen: pci_functions.PciFunction,
) -> tuple[MdevType, ...]:
    tree, folder = seen.tree, f"{seen.path}/mdev_supported_types"
    return tuple(
        MdevType(
            type_id=name,
            name=tree.read(f"{folder}/{name}/name") or name,
            available=tree.read_number(f"{folder}/{name}/available_instances"),
            made=tree.list_entries(f"{folder}/{name}/devices"),
        )
        for name in seen.list_entries("mdev_supported_types")
    )


def _read_vgpu_type(seen: pci_functions.PciFunction) -> int | None:
    """Read the vGPU type of a VF of NVIDIA's vendor-specific VFIO.

    Source: NVIDIA's Virtual GPU Software User Guide, "Creating an NVIDIA vGPU
    on a Linux with KVM Hypervisor that Uses a Vendor-Specific VFIO
    Framework"; Nova's admin/virtual-gpu tells such VFs by the same directory.
    """
    if seen.physfn is None or "nvidia" not in seen.files:
        return None
    return seen.tree.read_number(f"{seen.path}/nvidia/current_vgpu_type") or 0


def _name_vgpu_types(
    tree: tree_lib.Tree, functions: tuple[Function, ...]
) -> tuple[Function, ...]:
    """Add the names of vGPU types, where a file of the driver has them."""
    if not any(one.vgpu_type for one in functions):
        return functions
    names = {
        known.number: known.name
        for one in functions
        if one.vgpu_type is not None
        for known in types.parse_creatable(
            tree.read(f"{one.address.path}/{types.CREATABLE}") or ""
        )
    }
    names.update((one.number, one.name) for one in types.read_known(tree))
    return tuple(
        dataclasses.replace(one, vgpu_type_name=names.get(one.vgpu_type))
        if one.vgpu_type
        else one
        for one in functions
    )


def _read_reset_methods(
    seen: pci_functions.PciFunction,
) -> tuple[str, ...] | None:
    """Read how the kernel can reset the device.

    ``reset_method`` came with Linux 5.15; before, the file ``reset`` tells
    only that there is a way.
    """
    text = seen.read_text("reset_method")
    if text is not None:
        return tuple(text.split())
    if "reset" in seen.files:
        return ("unknown",)
    # A sysfs that shows what every device has shows also this.
    return None if seen.files.isdisjoint(("remove", "rescan")) else ()


def _read_pcie_link(seen: pci_functions.PciFunction) -> PcieLink | None:
    if "current_link_speed" not in seen.files:
        return None
    return PcieLink(
        speed=seen.read_text("current_link_speed"),
        width=seen.read_number("current_link_width"),
        max_speed=seen.read_text("max_link_speed"),
        max_width=seen.read_number("max_link_width"),
    )


def _read_groups(
    found: list[pci_functions.PciFunction],
    functions: tuple[Function, ...],
    names: pci_ids.Names,
) -> tuple[IommuGroup, ...]:
    """List the members of the groups that the functions are in.

    Each device says its group, which is cheaper to read than what each group
    says of its devices: a thousand VFs have a thousand groups.
    """
    wanted = {function.iommu_group for function in functions} - {None}
    members: dict[int, list[GroupMember]] = {}
    for seen in found:
        if seen.iommu_group is not None and seen.iommu_group in wanted:
            members.setdefault(seen.iommu_group, []).append(
                GroupMember(
                    seen.address,
                    seen.class_code,
                    f"{seen.vendor_id:04x}:{seen.product_id:04x}",
                    seen.driver,
                    names.find_device_class(seen.class_code >> 8),
                )
            )
    return tuple(
        IommuGroup(number, tuple(members[number]))
        for number in sorted(members)
    )
