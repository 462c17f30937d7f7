# SPDX-License-Identifier: Apache-2.0

"""Are VFs that a nova.conf offers in a state to be given away?

Sources: NVIDIA's Virtual GPU Software User Guide (vendor-specific VFIO:
``nvidia/current_vgpu_type``), Nova's admin/pci-passthrough (``managed``, one
resource class a PF, ``live_migratable``) and admin/virtual-gpu.
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import live_migration
from nova_gpu_filter.host.checks.conf_findings import CHECK
from nova_gpu_filter.host.checks.conf_findings import Taken
from nova_gpu_filter.host.checks.conf_findings import list_addresses
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec

_FEW = 4
# Classes that 'nova-gpu-host config' has named after types of NVIDIA's.
_OF_TYPES = tuple(
    f"{our_traits.VGPU_CLASS}{maker}_" for maker in ("NVIDIA", "GRID")
)


def check(options: pci_options.PciOptions, taken: Taken) -> Iterator[Finding]:
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
    options: pci_options.PciOptions, text: str, functions: list[Function]
) -> Iterator[Finding]:
    empty = [one for one in functions if one.vgpu_type == 0]
    if empty:
        folder = f"{empty[0].address.path}/nvidia"
        yield Finding(
            Severity.WARNING,
            CHECK,
            "this device_spec offers VFs without a vGPU type, with which no"
            f" server starts: {list_addresses(empty)}",
            evidence=(
                Evidence(options.source, text),
                _show_vgpu_type(empty[0]),
            ),
            cures=(
                f"cat {folder}/creatable_vgpu_types",
                f"echo TYPE > {folder}/current_vgpu_type"
                "  # before nova-compute starts",
                "# or offer only VFs that have one: nova-gpu-host config",
            ),
        )
    mediated = [one for one in functions if one.mdev_types]
    if mediated:
        yield Finding(
            Severity.WARNING,
            CHECK,
            "this device_spec offers devices that carry mediated ones, which"
            f" are not for passthrough: {list_addresses(mediated)}",
            evidence=(Evidence(options.source, text),),
            cures=(
                "# offer their types with [devices]enabled_mdev_types, and"
                " take the device_spec out",
            ),
        )


def _check_managed(
    options: pci_options.PciOptions,
    spec: DeviceSpec,
    functions: list[Function],
) -> Iterator[Finding]:
    """Compare the tag managed, yes by default, with the drivers."""
    is_managed = spec.read_tag("managed") is not False
    variant = [one for one in functions if one.vgpu_type is not None]
    if variant and is_managed:
        yield Finding(
            Severity.ERROR,
            CHECK,
            'the device_spec of these VFs needs "managed": "no": by default'
            " libvirt takes them from the driver that makes them vGPUs, which"
            f" can crash the host: {list_addresses(variant)}",
            evidence=(
                Evidence(options.source, spec.text),
                show_driver(variant[0]),
            ),
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
        yield Finding(
            Severity.ERROR,
            CHECK,
            'the device_spec says "managed": "no", so nobody binds these to'
            f" vfio-pci: {list_addresses(unbound)}",
            evidence=(
                Evidence(options.source, spec.text),
                show_driver(unbound[0]),
            ),
            cures=drivers.bind_to_vfio(unbound[0].address, unbound[0].driver),
        )


def _check_types(taken: Taken) -> Iterator[Finding]:
    by_pf = fragment.collect_vgpu_types([function for function, _ in taken])
    for pf, types in by_pf.items():
        if len(types) > 1:
            yield Finding(
                Severity.WARNING,
                CHECK,
                "VFs of one PF have different vGPU types"
                f" ({', '.join(map(str, sorted(types)))}), and Nova has one"
                " resource class a PF: a server may get any of them",
                device=str(pf),
                evidence=tuple(
                    _show_vgpu_type(function)
                    for function, _ in taken
                    if function.physfn == pf and function.vgpu_type
                )[:_FEW],
                cures=("# give all VFs of a PF the same vGPU type",),
            )


def _check_classes(
    options: pci_options.PciOptions, taken: Taken
) -> Iterator[Finding]:
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
        yield Finding(
            Severity.WARNING,
            CHECK,
            summary,
            evidence=(
                Evidence(options.source, name),
                *map(_show_vgpu_type, some[:_FEW]),
            ),
            cures=(
                "nova-gpu-host config  # has a resource class for each type",
            ),
        )


def _check_migration(taken: Taken) -> Iterator[Finding]:
    """Compare the tag live_migratable with the drivers."""
    cannot = [
        function
        for function, spec in taken
        if spec.read_tag("live_migratable")
        and not live_migration.can_migrate(function)
    ]
    if cannot:
        yield Finding(
            Severity.WARNING,
            CHECK,
            "live_migratable is yes, but the driver of these cannot migrate"
            f" them: {list_addresses(cannot)}",
            evidence=(show_driver(cannot[0]),),
            cures=("# take live_migratable out of their device_spec",),
        )
