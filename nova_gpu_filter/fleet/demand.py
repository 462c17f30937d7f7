# SPDX-License-Identifier: Apache-2.0

"""What a server of a flavor takes of a host, as Nova asks Placement for it."""

import collections
from collections.abc import Mapping
import dataclasses
import functools

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules import resource_groups
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.topology import policy


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceDemand:
    """The devices of one alias."""

    alias: Alias
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """What a flavor asks of one provider, as by ``resources1:VGPU=1``."""

    suffix: str
    """``1``; what stands between ``resources`` and the colon."""
    amounts: tuple[tuple[str, int], ...]
    """(resource class, amount), without zeros."""
    required: frozenset[str] = frozenset()
    """Traits that the provider must have."""
    forbidden: frozenset[str] = frozenset()


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
    groups: tuple[Group, ...] = ()
    """Each of one provider, the compute node or a device of it."""
    is_isolated: bool = False
    """Whether no two groups may have the same provider."""

    @property
    def classes_without_alias(self) -> set[str]:
        """Resource classes that the flavor itself asks for."""
        return {
            name
            for pairs in (self.amounts, *(g.amounts for g in self.groups))
            for name, _ in pairs
        }

    @functools.cached_property
    def total(self) -> dict[str, int]:
        """All that it takes by resource class, as a quota counts it."""
        found: dict[str, int] = {}
        for name, number in (
            *self.amounts,
            *(pair for group in self.groups for pair in group.amounts),
            *((d.alias.resource_class, d.count) for d in self.devices),
        ):
            found[name] = found.get(name, 0) + number
        return found


def calculate(
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
        policy.parse_spread(specs)
        requests = _group_requests(specs, is_strict=True)
        amounts = _calculate_amounts(flavor, requests)
    except ValueError as exc:
        raise errors.BadFlavor(flavor=flavor.name, problem=exc) from exc
    if asked and not known:
        raise errors.NoAliases(source=source)
    for ask in asked:
        if ask.alias not in known:
            raise errors.NoAlias(
                flavor=flavor.name, alias=ask.alias, source=source
            )
    own = requests.pop("", Group("", ()))
    image = _group_requests(image_properties or {}).get("", Group("", ()))
    return Demand(
        flavor.name,
        tuple((name, n) for name, n in amounts.items() if n),
        own.required | image.required,
        own.forbidden | image.forbidden,
        tuple(DeviceDemand(known[ask.alias], ask.count) for ask in asked),
        link_policy,
        tuple(
            dataclasses.replace(
                group, amounts=tuple(pair for pair in group.amounts if pair[1])
            )
            for group in requests.values()
            if any(number for _, number in group.amounts)
        ),
        specs.get("group_policy") == "isolate",
    )


def count_resources(specs: Mapping[str, str]) -> dict[str, int]:
    """Count what extra specs ask for without an alias, by resource class."""
    found: collections.Counter[str] = collections.Counter()
    for asked in resource_groups.parse(specs):
        found[asked.resource_class] += asked.amount
    return found


def _group_requests(
    specs: Mapping[str, str], is_strict: bool = False
) -> dict[str, Group]:
    """Group what extra specs ask for, by suffix; zeros are kept.

    :param is_strict: whether to raise for what Nova leaves out.
    :raises ValueError: an amount is no number.
    """
    amounts: dict[str, dict[str, int]] = collections.defaultdict(dict)
    traits: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for asked in resource_groups.parse(specs, is_strict):
        amounts[asked.suffix][asked.resource_class] = asked.amount
    for trait in resource_groups.parse_traits(specs):
        traits[trait.suffix, trait.value].add(trait.name)
    return {
        suffix: Group(
            suffix,
            tuple(amounts[suffix].items()),
            frozenset(traits[suffix, "required"]),
            frozenset(traits[suffix, "forbidden"]),
        )
        for suffix in sorted(amounts.keys() | {suffix for suffix, _ in traits})
    }


def _calculate_amounts(
    flavor: model.Flavor, requests: Mapping[str, Group]
) -> dict[str, int]:
    """Say what is asked of the compute node, without devices.

    What extra specs ask for, in whichever group, goes over what the flavor is
    made of; guests with dedicated CPUs take PCPU (``from_request_spec`` in
    nova/scheduler/utils.py).
    """
    specs = flavor.extra_specs
    dedicated = _count_dedicated(flavor)
    cpus = {"VCPU": flavor.vcpus - dedicated, "PCPU": dedicated}
    if dedicated and specs.get("hw:emulator_threads_policy") == "isolate":
        cpus["PCPU"] += 1
    implied = {**cpus, "MEMORY_MB": flavor.ram_mb, "DISK_GB": flavor.disk_gb}
    asked = {name for group in requests.values() for name, _ in group.amounts}
    if asked & cpus.keys():
        asked |= cpus.keys()
    own = requests.get("")
    return {
        **{name: n for name, n in implied.items() if name not in asked},
        **dict(own.amounts if own else ()),
    }


def _count_dedicated(flavor: model.Flavor) -> int:
    """Count the dedicated CPUs of a guest, as
    ``_translate_pinning_policies`` in nova/scheduler/utils.py."""
    specs = flavor.extra_specs
    match specs.get("hw:cpu_policy"):
        case "dedicated":
            return flavor.vcpus
        case "mixed":
            mask = specs.get("hw:cpu_dedicated_mask") or specs.get(
                "hw:cpu_realtime_mask", ""
            )
            return len(_read_mask(mask, flavor.vcpus))
    return 0


def _read_mask(text: str, cpus: int) -> set[int]:
    """Read ``0-3,^1``; one that begins with ``^`` leaves out of all."""
    found: set[int] = set()
    left_out: set[int] = set()
    if text.strip().startswith("^"):
        found = set(range(cpus))
    for part in filter(None, map(str.strip, text.split(","))):
        first, _, last = part.removeprefix("^").partition("-")
        if not (first.strip().isdigit() and (last or first).strip().isdigit()):
            raise ValueError(f"{text!r} is no set of CPUs")
        named = range(int(first), int(last or first) + 1)
        (left_out if part.startswith("^") else found).update(named)
    return found - left_out
