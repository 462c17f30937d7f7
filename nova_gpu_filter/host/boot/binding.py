# SPDX-License-Identifier: Apache-2.0

"""Writes what binds devices to vfio-pci at boot: printed, never applied.

modprobe.d(5) names ids, udev(7) addresses. Ids are enough unless the host
keeps a device of the same ids, as a console or as the PF of VFs.
"""

from collections.abc import Sequence
import dataclasses
import itertools

from nova_gpu_filter.host import printed
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.boot import initramfs
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind

_MODPROBE = "/etc/modprobe.d/nova-gpu-host.conf"
_RULES = "/etc/udev/rules.d/70-nova-gpu-host.rules"
# A rule names the driver, but does not load it.
_LOAD = "echo {0} > /etc/modules-load.d/{0}.conf"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which devices to bind, and by what."""

    by_ids: tuple[Function, ...]
    by_address: tuple[Function, ...]
    """Those whose ids a device has that the host keeps."""


def plan(context: Context, chosen: Sequence[Function]) -> Plan:
    """Sort the devices to bind: with them the other functions of cards.

    :param chosen: the devices for guests.
    """
    bound: dict[PciAddress | None, Function] = {}
    for function in chosen:
        if function.vgpu_type is not None:
            # Its own driver is the one that gives it to guests.
            continue
        bound[function.address] = function
        for one in context.host.list_card_functions(function):
            # Another port of a network card is a device of its own.
            if one.kind is Kind.FUNCTION and not one.is_needed_by_host:
                bound[one.address] = one
    kept = {
        function.ids
        for function in context.host.functions
        # VFs of a PF that is given away whole go with it.
        if function.address not in bound and function.physfn not in bound
    }
    functions = sorted(bound.values(), key=lambda one: one.address)

    def is_by_address(one: Function) -> bool:
        # Only vfio-pci takes ids; its variants want driver_override
        # (PCI_DRIVER_OVERRIDE_DEVICE_VFIO in include/linux/pci.h).
        wanted = drivers.find_vfio_driver(one.ids)
        return one.ids in kept or wanted != drivers.VFIO

    return Plan(
        tuple(itertools.filterfalse(is_by_address, functions)),
        tuple(filter(is_by_address, functions)),
    )


def write_commands(
    context: Context, gpu: Function, function: Function
) -> tuple[str, ...]:
    """Say what binds a function of a GPU's card at boot, as commands."""
    only = _list_named(context, gpu)
    chosen = fragment.choose_devices(context.host, fragment.Options(only=only))

    def format_config(form: str) -> str:
        return context.format_command("config", form, devices=only)

    boot = context.boot
    wanted = drivers.find_vfio_driver(function.ids)
    modules = boot.list_grabbers(function)
    is_by_address = function in plan(context, (*chosen, gpu)).by_address
    first = boot.load_vfio_first(modules)
    # Neither modprobe nor a rule is in time for what is built in, nor a rule
    # for what the initramfs loads.
    if (
        boot.has_builtin(modules)
        or (is_by_address and any(map(boot.is_before_rules, modules)))
        or (first and _has_other_ids(context))
    ):
        return (f"driverctl set-override {function.address} {wanted}",)
    if is_by_address or _has_other_ids(context):
        # A file for a few devices leaves others alone.
        names = "".join(f"-{one}".replace(":", "-") for one in only)
        rules = _RULES.replace(".rules", f"{names}.rules")
        return (
            f"{format_config('--udev')} > {rules}",
            *load_at_boot(context, wanted),
        )
    if boot.is_vfio_builtin:
        return context.suggest_kernel_arguments(
            f"$({format_config('--cmdline')})"
        )
    commands = [f"{format_config('--modprobe')} > {_MODPROBE}", *first]
    if boot.lacks_modprobe_options:
        commands.append(initramfs.add_modconf(context.tree))
    return tuple(dict.fromkeys((*commands, *context.rebuild_initramfs())))


def load_at_boot(context: Context, driver: str) -> tuple[str, ...]:
    """Say how a VFIO driver is loaded at boot; empty: it is built in."""
    if context.boot.is_builtin(driver):
        return ()
    return (_LOAD.format(driver),)


def _has_other_ids(context: Context) -> bool:
    """Tell whether vfio-pci is told ids that ours would stand against.

    It takes one list only, the last; and one for the devices that were asked
    about would give back the others.
    """
    return any(
        context.asked or setting.evidence.path != _MODPROBE
        for setting in context.boot.id_settings
    )


def _list_named(context: Context, gpu: Function) -> tuple[PciAddress, ...]:
    """List the devices that ``config`` has to be given by name.

    Those that were asked about; and, where the host uses every GPU, these,
    which are offered by name only.
    """
    if context.asked or not gpu.is_needed_by_host:
        return context.asked
    return tuple(
        one.address
        for one in context.host.gpus
        if one.is_needed_by_host and not one.is_display_only
    )


def write_cmdline(context: Context, chosen: Sequence[Function]) -> str:
    """Write the arguments for the kernel's command line, in one line."""
    arguments = [*iommu_platforms.list_arguments(context)]
    ids = _list_ids(plan(context, chosen).by_ids)
    if ids:
        arguments.append(f"vfio-pci.ids={','.join(ids)}")
        # dracut loads it before other drivers; others pass it over.
        arguments.append("rd.driver.pre=vfio-pci")
    return " ".join(arguments) + "\n"


def _list_ids(functions: Sequence[Function]) -> list[str]:
    return list(dict.fromkeys(one.ids for one in functions))


def write_modprobe(context: Context, chosen: Sequence[Function]) -> str:
    """Write a file for /etc/modprobe.d."""
    made = plan(context, chosen)
    lines = ["# Written by nova-gpu-host config --modprobe. After a change:"]
    for command in context.rebuild_initramfs():
        lines.append(f"# {command.removeprefix('# ')}")
    if made.by_ids:
        lines.append(
            f"options vfio-pci ids={','.join(_list_ids(made.by_ids))}"
        )
    first: dict[str, dict[str, None]] = {}
    for function in (*made.by_ids, *made.by_address):
        for driver in context.boot.list_candidates(function):
            if driver not in drivers.VFIO_DRIVERS:
                first.setdefault(driver, {}).setdefault(
                    drivers.find_vfio_driver(function.ids)
                )
    for driver, before in first.items():
        lines.append(f"softdep {driver} pre: {' '.join(before)}")
    if "nouveau" in first and any(one.kind is Kind.GPU for one in made.by_ids):
        lines.append("blacklist nouveau")
    for ids in _list_ids(made.by_address):
        number = sum(one.ids == ids for one in made.by_address)
        wanted = drivers.find_vfio_driver(ids)
        why = (
            "the host keeps another of the same ids"
            if wanted == drivers.VFIO
            else f"{wanted} takes no ids"
        )
        lines += [
            f"# {number} devices [{ids}] are bound by their addresses, since"
            f" {why}:",
            "# see nova-gpu-host config --udev.",
        ]
    if not made.by_ids and not made.by_address:
        lines.append("# There is no device to bind.")
    return printed.join_lines(lines)


def write_udev(context: Context, chosen: Sequence[Function]) -> str:
    """Write rules for /etc/udev/rules.d, by address.

    Those of physical devices hold for the event of any PCI device: a driver
    takes all devices that it knows as soon as one of them has it loaded, and
    events of several devices are worked on at the same time. ``[pci/ADDRESS]``
    names an attribute of another device (systemd, src/udev/udev-rules.c,
    TK_A_ATTR). VFs are not there yet then, which udev would complain about.
    """
    made = plan(context, chosen)
    lines = [
        "# Written by nova-gpu-host config --udev, for a file before"
        " 80-drivers.rules,",
        "# such as /etc/udev/rules.d/70-nova-gpu-host.rules. With each PCI",
        "# device that appears, since its driver may take these as well.",
    ]
    for function in sorted(
        (*made.by_ids, *made.by_address), key=lambda one: one.address
    ):
        wanted = drivers.find_vfio_driver(function.ids)
        lines.append(
            'ACTION=="add", SUBSYSTEM=="pci", '
            + (
                f"ATTR{{[pci/{function.address}]driver_override}}=\"{wanted}\""
                if function.physfn is None
                else f'KERNEL=="{function.address}",'
                f' ATTR{{driver_override}}="{wanted}"'
            )
        )
    return printed.join_lines(lines)
