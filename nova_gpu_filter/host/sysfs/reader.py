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
from nova_gpu_filter.host.sysfs import attributes
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.host.sysfs import device_paths
from nova_gpu_filter.host.sysfs import displays
from nova_gpu_filter.host.sysfs import host_use
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
    words = pci_ids.CachedNames(names)
    found, problems = pci_functions.read(tree)
    kinds = pci_functions.choose_kinds(found)
    host_uses = host_use.HostUses(tree)
    functions = tuple(
        _read_function(tree, seen, kinds.get(seen.address), words, host_uses)
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
        numa_nodes = attributes.parse_node_list(tree.read(paths.NODES))
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
        groups=_read_groups(tree, found, functions, words),
        numa_nodes=numa_nodes,
        kernel=tree.read(paths.RELEASE),
        names_from=names.source or None,
        problems=tuple(problems),
    )


def read_others(tree: tree_lib.Tree, known: Inventory) -> tuple[Function, ...]:
    """Read the functions that an inventory leaves out, but for bridges."""
    words = pci_ids.CachedNames(pci_ids.Names("", "\n"))
    host_uses = host_use.HostUses(tree)
    found = []
    for name in tree.list_entries(address_lib.DEVICES):
        address = address_lib.find(name)
        if address is None or address in known.by_address:
            continue
        seen = pci_functions.PciFunction(tree, address)
        if seen.class_code is None or seen.ids is None:
            continue
        if seen.class_code >> 16 != pci_functions.BRIDGE:
            found.append(_read_function(tree, seen, None, words, host_uses))
    return tuple(sorted(found, key=lambda function: function.address))


def _read_function(
    tree: tree_lib.Tree,
    seen: pci_functions.PciFunction,
    kind: Kind | None,
    words: pci_ids.CachedNames,
    host_uses: host_use.HostUses,
) -> Function:
    assert seen.class_code is not None
    assert seen.ids is not None
    path, files = seen.path, seen.files
    vendor, product = seen.ids

    def read_number(name: str) -> int | None:
        return tree.read_number(f"{path}/{name}") if name in files else None

    def read_text(name: str) -> str | None:
        return tree.read(f"{path}/{name}") if name in files else None

    subvendor, subproduct = (
        read_number("subsystem_vendor"),
        read_number("subsystem_device"),
    )
    override = read_text("driver_override")
    numa = read_number("numa_node")
    driver = (
        tree.read_link_name(f"{path}/driver") if "driver" in files else None
    )
    root, bridges = device_paths.read_bridges(tree, path)
    name = words.find_product(vendor, product)
    uses = (
        *host_uses.find(
            seen.address,
            vendor,
            product,
            seen.class_code,
            is_vf=seen.physfn is not None,
        ),
        *_read_boot_vga(seen, read_text("boot_vga")),
    )
    if not any(one.use is Use.CONSOLE for one in uses):
        # A console has been said, and is one while it has any driver.
        uses = (*uses, *_read_uses_of_processor(seen, driver))
    return Function(
        address=seen.address,
        kind=kind,
        class_code=seen.class_code,
        vendor_id=vendor,
        product_id=product,
        subvendor_id=subvendor,
        subproduct_id=subproduct,
        revision=read_number("revision"),
        class_name=words.find_device_class(seen.class_code >> 8),
        vendor_name=words.find_vendor(vendor),
        product_name=name,
        subsystem_name=words.find_subsystem(
            vendor, product, subvendor, subproduct
        ),
        chip=(chips.find(vendor, product, name) if kind is Kind.GPU else None),
        numa_node=None if numa is None or numa < 0 else numa,
        iommu_group=seen.iommu_group,
        driver=driver,
        # The kernel prints a null pointer where none is set.
        driver_override=None if override in ("(null)", "") else override,
        sriov_totalvfs=read_number("sriov_totalvfs"),
        sriov_numvfs=read_number("sriov_numvfs"),
        vf_product_id=attributes.parse_hexadecimal(
            read_text("sriov_vf_device")
        ),
        physfn=seen.physfn,
        vfs=_read_vfs(tree, path, files),
        mdev_types=_read_mdev_types(tree, path, files),
        vgpu_type=_read_vgpu_type(tree, seen),
        bars=attributes.parse_bars(read_text("resource")),
        reset_methods=attributes.parse_reset_methods(
            read_text("reset_method"), files
        ),
        pcie_link=_read_pcie_link(tree, path, files),
        root=root,
        bridges=bridges,
        interfaces=tree.list_entries(f"{path}/net") if "net" in files else (),
        rdma_devices=(
            tree.list_entries(f"{path}/infiniband")
            if "infiniband" in files
            else ()
        ),
        modalias=read_text("modalias"),
        power_state=read_text("power_state"),
        is_boot_display=any(one.use is Use.CONSOLE for one in uses),
        host_uses=uses,
    )


def _read_boot_vga(
    seen: pci_functions.PciFunction, value: str | None
) -> Iterator[HostUse]:
    if value == "1":
        yield HostUse(
            Use.CONSOLE,
            "the host's console is on it",
            f"{seen.path}/boot_vga",
            value,
        )


def _read_uses_of_processor(
    seen: pci_functions.PciFunction, driver: str | None
) -> Iterator[HostUse]:
    assert seen.class_code is not None
    assert seen.ids is not None
    row = displays.find_of_processor(
        seen.address, *seen.ids, seen.class_code, driver, seen.files
    )
    if row is not None:
        yield HostUse(
            Use.PROCESSOR,
            f"it is the graphics of the processor ({row.name})",
            f"{seen.path}/driver",
            driver,
        )


def _read_vfs(
    tree: tree_lib.Tree, path: str, files: frozenset[str]
) -> tuple[PciAddress, ...]:
    found = []
    for name in files:
        if name.startswith("virtfn"):
            address = address_lib.find(
                tree.read_link_name(f"{path}/{name}") or ""
            )
            if address:
                found.append(address)
    return tuple(sorted(found))


def _read_mdev_types(
    tree: tree_lib.Tree, path: str, files: frozenset[str]
) -> tuple[MdevType, ...]:
    if "mdev_supported_types" not in files:
        return ()
    folder = f"{path}/mdev_supported_types"
    return tuple(
        MdevType(
            type_id=name,
            name=tree.read(f"{folder}/{name}/name") or name,
            available=tree.read_number(f"{folder}/{name}/available_instances"),
            made=tree.list_entries(f"{folder}/{name}/devices"),
        )
        for name in tree.list_entries(folder)
    )


def _read_vgpu_type(
    tree: tree_lib.Tree, seen: pci_functions.PciFunction
) -> int | None:
    """Read the vGPU type of a VF of NVIDIA's vendor-specific VFIO.

    Source: NVIDIA's Virtual GPU Software User Guide, "Creating an NVIDIA vGPU
    on a Linux with KVM Hypervisor that Uses a Vendor-Specific VFIO
    Framework"; Nova's admin/virtual-gpu tells such VFs by the same directory.
    """
    if seen.physfn is None or "nvidia" not in seen.files:
        return None
    return tree.read_number(f"{seen.path}/nvidia/current_vgpu_type") or 0


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


def _read_pcie_link(
    tree: tree_lib.Tree, path: str, files: frozenset[str]
) -> PcieLink | None:
    if "current_link_speed" not in files:
        return None
    return PcieLink(
        speed=tree.read(f"{path}/current_link_speed"),
        width=tree.read_number(f"{path}/current_link_width"),
        max_speed=tree.read(f"{path}/max_link_speed"),
        max_width=tree.read_number(f"{path}/max_link_width"),
    )


def _read_groups(
    tree: tree_lib.Tree,
    found: list[pci_functions.PciFunction],
    functions: tuple[Function, ...],
    words: pci_ids.CachedNames,
) -> tuple[IommuGroup, ...]:
    """List the members of the groups that the functions are in.

    Each device says its group, which is cheaper to read than what each group
    says of its devices: a thousand VFs have a thousand groups.
    """
    known = {function.address: function for function in functions}
    wanted = {function.iommu_group for function in functions} - {None}
    members: dict[int, list[GroupMember]] = {}
    for seen in found:
        if seen.iommu_group is None or seen.iommu_group not in wanted:
            continue
        members.setdefault(seen.iommu_group, []).append(
            _read_member(tree, seen, known.get(seen.address), words)
        )
    return tuple(
        IommuGroup(number, tuple(members[number]))
        for number in sorted(members)
    )


def _read_member(
    tree: tree_lib.Tree,
    seen: pci_functions.PciFunction,
    function: Function | None,
    words: pci_ids.CachedNames,
) -> GroupMember:
    assert seen.class_code is not None
    assert seen.ids is not None
    vendor, product = seen.ids
    return GroupMember(
        seen.address,
        seen.class_code,
        f"{vendor:04x}:{product:04x}",
        tree.read_link_name(f"{seen.path}/driver")
        if function is None
        else function.driver,
        words.find_device_class(seen.class_code >> 8),
    )
