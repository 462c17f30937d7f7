# SPDX-License-Identifier: Apache-2.0

"""Holds the VFs, and the tag live_migratable, of a nova.conf against the host.

Sources: NVIDIA's Virtual GPU Software User Guide (vendor-specific VFIO:
``nvidia/current_vgpu_type``), Nova's admin/pci-passthrough (``managed``, one
resource class a PF, ``live_migratable``, "Post-copy limitation") and
admin/virtual-gpu.
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import vgpus
from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.conf_findings import Taken
from nova_gpu_filter.host.checks.conf_findings import list_addresses
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec
from nova_gpu_filter.nova_rules.pci_options import PciOptions

_FEW = 4
# Nova 34, nova/virt/libvirt/driver.py (_check_pci_whitelist):
# MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION, MIN_VFIO_PCI_VARIANT_QEMU_VERSION.
_MINIMA = {"libvirt": (10, 0, 0), "QEMU": (8, 2, 2)}
# Classes that 'nova-gpu-host config' has named after types of NVIDIA's.
_OF_TYPES = tuple(
    f"{our_traits.VGPU_CLASS}{maker}_" for maker in ("NVIDIA", "GRID")
)


def check(options: PciOptions, taken: Taken) -> Findings:
    """Check the VFs among the devices that are offered.

    :param taken: the devices, and the device spec of each.
    """
    by_text: dict[str, list[tuple[Function, DeviceSpec]]] = {}
    for function, spec in taken:
        by_text.setdefault(spec.text, []).append((function, spec))
    for text, members in by_text.items():
        functions = [function for function, _ in members]
        yield from _check_state(options, text, functions)
        yield from _check_managed(options, members[0][1], functions)
    yield from _check_types(taken)
    yield from _check_classes(options, taken)
    yield from _check_migration(taken)


def _show_vgpu_type(function: Function) -> Evidence:
    return Evidence(
        f"{function.address.path}/nvidia/current_vgpu_type",
        str(function.vgpu_type),
    )


def _check_state(
    options: PciOptions, text: str, functions: list[Function]
) -> Findings:
    empty = [one for one in functions if one.vgpu_type == 0]
    if empty:
        folder = f"{empty[0].address.path}/nvidia"
        yield CHECK.warning(
            "this device_spec offers VFs without a vGPU type, with which no"
            f" server starts: {list_addresses(empty)}",
            Evidence(options.source, text),
            _show_vgpu_type(empty[0]),
            cures=(
                f"cat {folder}/creatable_vgpu_types",
                f"echo TYPE > {folder}/current_vgpu_type"
                "  # before nova-compute starts",
                "# or offer only VFs that have one: nova-gpu-host config",
            ),
        )
    mediated = [one for one in functions if one.mdev_types]
    if mediated:
        yield CHECK.warning(
            "this device_spec offers devices that carry mediated ones, which"
            f" are not for passthrough: {list_addresses(mediated)}",
            Evidence(options.source, text),
            cures=(
                "# offer their types with [devices]enabled_mdev_types, and"
                " take the device_spec out",
            ),
        )


def _check_managed(
    options: PciOptions, spec: DeviceSpec, functions: list[Function]
) -> Findings:
    """Compare the tag managed, yes by default, with the drivers."""
    is_managed = spec.read_tag("managed") is not False
    variant = [one for one in functions if one.vgpu_type is not None]
    if variant and is_managed:
        yield CHECK.error(
            'the device_spec of these VFs needs "managed": "no": by default'
            " libvirt takes them from the driver that makes them vGPUs, which"
            f" can crash the host: {list_addresses(variant)}",
            Evidence(options.source, spec.text),
            show_driver(variant[0]),
            cures=('# write "managed": "no" into this device_spec',),
        )
    unbound = [
        one
        for one in functions
        if one.vgpu_type is None
        and one.driver not in drivers.VFIO_DRIVERS
        and not one.sriov_numvfs
    ]
    if unbound and not is_managed:
        yield CHECK.error(
            'the device_spec says "managed": "no", so nobody binds these to'
            f" vfio-pci: {list_addresses(unbound)}",
            Evidence(options.source, spec.text),
            show_driver(unbound[0]),
            cures=drivers.bind_to_vfio(unbound[0].address, unbound[0].driver),
        )


def _check_types(taken: Taken) -> Findings:
    by_pf = fragment.collect_vgpu_types([function for function, _ in taken])
    for pf, types in by_pf.items():
        if len(types) > 1:
            yield CHECK.warning(
                "VFs of one PF have different vGPU types"
                f" ({', '.join(map(str, sorted(types)))}), and Nova has one"
                " resource class a PF: a server may get any of them",
                *tuple(
                    _show_vgpu_type(function)
                    for function, _ in taken
                    if function.physfn == pf and function.vgpu_type
                )[:_FEW],
                device=pf,
                cures=("# give all VFs of a PF the same vGPU type",),
            )


def _check_classes(options: PciOptions, taken: Taken) -> Findings:
    """Compare the resource classes with the types.

    Types change by 'nova-gpu-host vgpu apply', and nova.conf does not.
    """
    by_class: dict[str, dict[str, list[Function]]] = {}
    for function, spec in taken:
        if function.vgpu_type:
            name = spec.get_resource_class(
                function.vendor_id, function.product_id
            )
            kind = function.vgpu_type_name or f"type {function.vgpu_type}"
            by_class.setdefault(name, {}).setdefault(kind, []).append(function)
    for name, types in by_class.items():
        some = [functions[0] for functions in types.values()]
        wrong = [
            function
            for functions in types.values()
            for function in functions
            if function.vgpu_type_name
            and name.startswith(_OF_TYPES)
            and name != naming.name_resource_class(function, naming.Choices())
        ]
        if wrong:
            summary = (
                f"{name} is named after another vGPU type than"
                f" {wrong[0].vgpu_type_name}, which VFs of it have:"
                f" {list_addresses(wrong)}"
            )
            some = wrong
        elif len({function.physfn for function in some}) > 1:
            summary = (
                f"VFs of {name} have different vGPU types"
                f" ({', '.join(sorted(types))}): a server may get any of them"
            )
        else:
            continue
        yield CHECK.warning(
            summary,
            Evidence(options.source, name),
            *map(_show_vgpu_type, some[:_FEW]),
            cures=(
                "nova-gpu-host config  # has a resource class for each type",
            ),
        )


def _check_migration(taken: Taken) -> Findings:
    """Compare the tag live_migratable with the drivers."""
    cannot = [
        function
        for function, spec in taken
        if spec.read_tag("live_migratable") and not vgpus.can_migrate(function)
    ]
    if cannot:
        yield CHECK.warning(
            "live_migratable is yes, but the driver of these cannot migrate"
            f" them: {list_addresses(cannot)}",
            show_driver(cannot[0]),
            cures=("# take live_migratable out of their device_spec",),
        )


def check_versions(context: Context, options: PciOptions) -> Findings:
    """Compare the tag live_migratable with programs and with post-copy."""
    tagged = list(_list_tagged(options))
    if not tagged:
        return
    yield from _check_minima(
        context.packages, Evidence(options.source, tagged[0].text)
    )
    movable = [spec for spec in tagged if spec.read_tag("live_migratable")]
    if movable and options.permits_post_copy:
        yield CHECK.warning(
            "[libvirt]live_migration_permit_post_copy is true, with which QEMU"
            " refuses to live-migrate a server that has such a device",
            Evidence(options.source, "live_migration_permit_post_copy = true"),
            Evidence(options.source, movable[0].text),
            cures=(
                "# write [libvirt]live_migration_permit_post_copy = false, and"
                " restart nova-compute",
            ),
        )


def _list_tagged(options: PciOptions) -> Iterator[DeviceSpec]:
    for text in options.device_specs:
        try:
            specs = list(device_spec.parse(text))
        except device_spec.SpecError:
            # It is told where device specs are checked.
            continue
        yield from (spec for spec in specs if "live_migratable" in spec.tags)


def _check_minima(installed: packages.Packages, shown: Evidence) -> Findings:
    found = {"libvirt": installed.libvirt, "QEMU": installed.qemu}
    minima = " and ".join(
        f"{name} {'.'.join(map(str, numbers))}"
        for name, numbers in _MINIMA.items()
    )
    demand = (
        "with the tag live_migratable, whatever its value, nova-compute"
        f" starts only with {minima} or newer"
    )
    old = {
        name: version
        for name, version in found.items()
        if version is not None and version.numbers < _MINIMA[name]
    }
    if old:
        yield CHECK.error(
            f"{demand}, and this host has "
            + " and ".join(
                f"{name} {version}" for name, version in old.items()
            ),
            shown,
            *(Evidence(one.path, one.content) for one in old.values()),
            cures=(
                "# take the tag out of the device_spec, or install newer ones",
            ),
        )
    elif None in found.values():
        yield CHECK.note(
            demand,
            shown,
            Evidence(packages.DPKG, None),
            cures=(
                "virsh version",
                "# with older ones, take the tag out of the device_spec",
            ),
        )
