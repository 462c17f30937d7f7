# SPDX-License-Identifier: Apache-2.0

"""What a server of a flavor takes of a host, as Nova asks Placement for it."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re
from typing import Final

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.topology import policy

_RESOURCES: Final = "resources:"
_TRAIT: Final = "trait:"


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceDemand:
    """The devices of one alias."""

    alias: Alias
    count: int


@dataclasses.dataclass(frozen=True)
class Demand:
    """What one server takes."""

    name: str
    """Of the flavor."""
    amounts: tuple[tuple[str, int], ...]
    """(resource class, amount) of the host itself, without zeros."""
    required: frozenset[str]
    """Traits that the host must have."""
    forbidden: frozenset[str]
    devices: tuple[DeviceDemand, ...]
    """In the order of the flavor: the first is for GPUs."""
    link_policy: policy.LinkPolicy | None


def of(
    flavor: model.Flavor,
    known: Mapping[str, Alias],
    source: str,
    image_properties: Mapping[str, str] | None = None,
) -> Demand:
    """Work out what a server of a flavor takes.

    :param known: aliases, by name.
    :param source: where they come from, for messages.
    :raises NoAlias: the flavor asks for another alias.
    :raises BadFlavor: an extra spec cannot be read.
    """
    specs = flavor.extra_specs
    try:
        asked = extra_specs.parse_device_counts(specs)
        link_policy = policy.parse(specs)
        amounts = _amounts(flavor)
    except ValueError as exc:
        raise errors.BadFlavor(flavor=flavor.name, problem=exc) from exc
    if asked and not known:
        raise errors.NoAliases(source=source)
    for ask in asked:
        if ask.alias not in known:
            raise errors.NoAlias(
                flavor=flavor.name, alias=ask.alias, source=source
            )
    traits = [*_traits(specs), *_traits(image_properties or {})]
    return Demand(
        flavor.name,
        tuple((name, n) for name, n in amounts.items() if n),
        frozenset(name for name, value in traits if value == "required"),
        frozenset(name for name, value in traits if value == "forbidden"),
        tuple(DeviceDemand(known[ask.alias], ask.count) for ask in asked),
        link_policy,
    )


def _amounts(flavor: model.Flavor) -> dict[str, int]:
    """Say what is asked of the compute node, without devices.

    ``resources:<class>`` of a flavor goes over what it is made of, and guests
    with dedicated CPUs take PCPU (nova/scheduler/utils.py). Numbered groups
    (``resources1:``) are of other providers and left out.
    """
    specs = flavor.extra_specs
    dedicated = specs.get("hw:cpu_policy") == "dedicated"
    amounts = {
        "PCPU" if dedicated else "VCPU": flavor.vcpus,
        "MEMORY_MB": flavor.ram_mb,
        "DISK_GB": flavor.disk_gb,
    }
    for key, value in specs.items():
        if key.startswith(_RESOURCES):
            if not re.fullmatch("[0-9]+", value):
                raise ValueError(f"{key} = {value!r} is no number")
            amounts[key.removeprefix(_RESOURCES)] = int(value)
    return amounts


def _traits(specs: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for key, value in specs.items():
        if key.startswith(_TRAIT):
            yield key.removeprefix(_TRAIT), value
