# SPDX-License-Identifier: Apache-2.0

"""Names of resource classes, traits and aliases, from what a device is."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools
import re

from nova_gpu_filter import exception
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Kind
from nova_gpu_filter.host.sysfs import board_devices
from nova_gpu_filter.nova_rules import alias as alias_rules
from nova_gpu_filter.nova_rules import names as nova_names
from nova_gpu_filter.nova_rules import our_traits

_PREFIXES = {
    Kind.GPU: "GPU",
    Kind.NIC: "NIC",
    Kind.NVSWITCH: "NVSWITCH",
    Kind.FUNCTION: "GPU_FUNCTION",
}
# How names of VFs end in pci.ids: "Instinct MI300X VF", "ConnectX Family
# mlx5Gen Virtual Function".
_NAMED_AS_VF = ("_VF", "_VIRTUAL_FUNCTION")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the operator wants to call devices.

    Keyed by ids (``10de:2330``); under ``*`` for all GPUs.
    """

    resource_classes: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_choices(option: str, values: list[str]) -> dict[str, str]:
    """Read ``10de:2330=NAME`` or, for all GPUs, ``NAME``.

    :raises BadInput: neither.
    """
    chosen: dict[str, str] = {}
    for value in values:
        with exception.name_source(f"{option} {value}"):
            ids, equals, name = value.rpartition("=")
            ids = ids.lower() if equals else "*"
            if not name or not re.fullmatch(
                r"\*|[0-9a-f]{4}:[0-9a-f]{4}", ids, re.ASCII
            ):
                raise exception.Malformed(
                    "give a NAME for all GPUs, or VENDOR:PRODUCT=NAME such as"
                    " 10de:2330=h100"
                )
            _check_name(option, name)
            if chosen.setdefault(ids, name) != name:
                raise exception.Malformed("given twice")
    return chosen


def _check_name(option: str, name: str) -> None:
    """Refuse what is no name of a resource class, or of an alias.

    The alias of a flavor is ``NAME:COUNT,NAME:COUNT``, without white space
    around a name (nova/pci/request.py).
    """
    if option == "--resource-class":
        try:
            nova_names.check_resource_class(make_symbol(name))
        except ValueError as error:
            raise exception.Malformed(str(error)) from None
    elif (
        not name.isprintable()
        or re.search(r"[:,]|^\s|\s$", name)
        or len(name) > alias_rules.MAX_NAME
    ):
        raise exception.Malformed(
            "flavors cannot ask for an alias with ':', ',' or control"
            " characters in it, nor of more than"
            f" {alias_rules.MAX_NAME} characters"
        )


def _find_chosen(names: Mapping[str, str], function: Function) -> str | None:
    if function.ids in names:
        return names[function.ids]
    return names.get("*") if function.kind is Kind.GPU else None


def make_symbol(text: str) -> str:
    """Write a text in the letters of resource classes and traits."""
    return re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")


def name_resource_class(function: Function, choices: Choices) -> str | None:
    """Name the resource class: ``CUSTOM_GPU_H100_SXM5_80GB``.

    VFs have one of their own: half a GPU is another resource than a whole,
    and a vGPU is one of its type, ``CUSTOM_VGPU_NVIDIA_A40_8Q``.
    Where the product has no name it is the one that Nova makes of the ids,
    ``CUSTOM_PCI_10DE_2330``.

    :returns: None for what is neither of interest nor named.
    """
    name = _find_chosen(choices.resource_classes, function)
    if name is not None:
        return nova_names.normalize_resource_class(make_symbol(name))
    if function.kind is None:
        return None
    if function.vgpu_type_name is not None:
        # As much of a GPU as its type says, whatever the GPU is.
        name = f"{our_traits.VGPU_CLASS}{make_symbol(function.vgpu_type_name)}"
        return name[: nova_names.MAX_LENGTH]
    if function.product is None:
        return nova_names.get_resource_class(None, *function.ids.split(":"))
    suffix = "_VF" if _needs_suffix(function) else ""
    name = f"CUSTOM_{_PREFIXES[function.kind]}_{make_symbol(function.product)}"
    return name[: nova_names.MAX_LENGTH - len(suffix)] + suffix


def name_alias(function: Function, choices: Choices) -> str:
    """Name the alias: ``h100-sxm5-80gb``; by ids where there is no name."""
    name = _find_chosen(choices.aliases, function)
    if name is not None:
        return name
    if function.vgpu_type_name is not None:
        return _format_alias(function.vgpu_type_name)
    if function.product is None:
        name = f"pci-{function.ids.replace(':', '-')}"
    else:
        name = _format_alias(function.product)
    return f"{name}-vf" if _needs_suffix(function) else name


def _format_alias(name: str) -> str:
    return make_symbol(name).lower().replace("_", "-")


def _needs_suffix(function: Function) -> bool:
    """Whether it is a VF whose name in the database does not say so."""
    name = make_symbol(function.product or "")
    return function.physfn is not None and not name.endswith(_NAMED_AS_VF)


@functools.cache
def _list_standard() -> frozenset[str]:
    import os_traits

    return frozenset(os_traits.get_traits(prefix="HW_GPU_"))


def name_traits(function: Function) -> tuple[str, ...]:
    """Name what a device is: model, architecture, compute capability.

    A compute capability is a trait of os-traits as far as that knows it (7.2
    in 2026), else a custom one of the same form.
    """
    if function.kind is not Kind.GPU:
        return ()
    found = []
    if function.product is not None:
        found.append(our_traits.MODEL + make_symbol(function.product))
    chip = function.chip
    if chip and chip.architecture:
        found.append(our_traits.ARCHITECTURE + make_symbol(chip.architecture))
    if chip and chip.compute_capability:
        version = make_symbol(chip.compute_capability)
        name = f"GPU_CUDA_COMPUTE_CAPABILITY_V{version}"
        is_standard = f"HW_{name}" in _list_standard()
        found.append(f"{'HW' if is_standard else 'CUSTOM'}_{name}")
    if chip and chip.isa:
        found.append(our_traits.ISA + make_symbol(chip.isa))
    return tuple(name[: nova_names.MAX_LENGTH] for name in found)


def list_host_traits(functions: Iterable[Function]) -> tuple[str, ...]:
    """Name what a host is as a whole: of which GPUs, and how many there are.

    Display adapters and VFs do not count, nor do graphics of the processor
    beside other GPUs.

    :returns: sorted; empty for a host without GPUs.
    """
    gpus = [
        one
        for one in functions
        if one.kind is Kind.GPU
        and one.physfn is None
        and not one.is_display_only
    ]
    # By their ids: in a ramdisk nobody has a driver.
    cards = [
        one
        for one in gpus
        if not board_devices.find_processor(
            one.address, one.vendor_id, one.product_id
        )
    ]
    gpus = cards or gpus
    found = {trait for one in gpus for trait in name_traits(one)}
    if gpus:
        found.add(f"{our_traits.COUNT}{len(gpus)}")
    return tuple(sorted(found))
