# SPDX-License-Identifier: Apache-2.0

"""Unified limits of the resource classes that aliases ask for."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.nova_rules.alias import Alias

PREFIX: Final = "class:"
"""Of resource classes, where Nova looks for limits (nova/limit/placement.py).
"""
_SERVERS: Final = "servers"
"""How many servers a project may have; ``instances`` in quota sets."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What Keystone knows; names of resources are ``class:<class>``."""

    defaults: Mapping[str, int]
    """Registered limits: resource -> limit."""
    by_project: Mapping[tuple[str, str], int]
    """(UUID of the project, resource) -> limit that it has of its own."""


@dataclasses.dataclass(frozen=True)
class Quota:
    """One resource class of one project."""

    project: str
    """Name."""
    resource_class: str
    aliases: tuple[str, ...]
    """Aliases that ask for it."""
    limit: int | None
    """None where none is registered; -1 for no limit."""
    is_own: bool
    """Whether the project has a limit of its own."""
    used: int

    @property
    def left(self) -> int | None:
        """What may still be used; None without a limit."""
        if self.limit is None or self.limit < 0:
            return None
        return max(self.limit - self.used, 0)

    @property
    def excess(self) -> int:
        """How much more is used than the limit allows."""
        if self.limit is None or self.limit < 0:
            return 0
        return max(self.used - self.limit, 0)


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which limits Nova enforces; None where we do not know."""

    is_unified: bool | None = None
    """Whether ``[quota]driver`` enforces those of Keystone."""
    strategy: str = "require"
    """``[quota]unified_limits_resource_strategy``."""
    listed: frozenset[str] = frozenset({"servers"})
    """``[quota]unified_limits_resource_list``."""
    counts_aliases: bool | None = None
    """Whether devices of aliases count: since Nova 34 (microversion 2.104)."""

    def counts_as_zero(self, resource: str) -> bool:
        """Whether nothing is allowed of what has no registered limit, as
        ``should_enforce`` in nova/limit/utils.py decides."""
        is_listed = resource in self.listed
        return bool(self.is_unified) and is_listed is (
            self.strategy == "require"
        )


@dataclasses.dataclass(frozen=True)
class Shortage:
    """A limit that one more server would be above."""

    resource: str
    """``class:CUSTOM_GPU_H100``, or ``cores``, ``ram``, ``instances``."""
    limit: int
    used: int
    asked: int
    is_registered: bool = True
    """False where the limit is 0 since nobody has registered one."""


def find_shortages(
    wanted: demand.Demand,
    project: str,
    limits: Limits | None,
    usages: Mapping[str, int],
    legacy: Mapping[str, tuple[int, int]],
    rules: Rules = Rules(),
) -> list[Shortage]:
    """Find the limits that one more server of a project would be above.

    :param limits: None where they are not known.
    :param usages: of the project, by resource class.
    :param legacy: what Nova itself counts: resource -> (limit, used).
    """
    found: list[Shortage] = []
    if limits is None or not rules.is_unified:
        found += _find_nova_shortages(wanted, legacy)
    if limits is not None and rules.is_unified is not False:
        found += _find_keystone_shortages(
            wanted, project, limits, usages, legacy, rules
        )
    return [
        short
        for short in found
        if short.limit >= 0
        and short.asked
        and short.used + short.asked > short.limit
    ]


def _find_nova_shortages(
    wanted: demand.Demand, legacy: Mapping[str, tuple[int, int]]
) -> Iterator[Shortage]:
    amounts = wanted.total
    asked_by_name = {
        "instances": 1,
        "cores": amounts.get("VCPU", 0) + amounts.get("PCPU", 0),
        "ram": amounts.get("MEMORY_MB", 0),
    }
    for name, asked in asked_by_name.items():
        if name in legacy:
            yield Shortage(name, *legacy[name], asked)


def _find_keystone_shortages(
    wanted: demand.Demand,
    project: str,
    limits: Limits,
    usages: Mapping[str, int],
    legacy: Mapping[str, tuple[int, int]],
    rules: Rules,
) -> Iterator[Shortage]:
    asked_by_resource = {
        PREFIX + name: number
        for name, number in wanted.total.items()
        if rules.counts_aliases is not False
        or name in wanted.classes_without_alias
    }
    used_by_resource = {PREFIX + name: n for name, n in usages.items()}
    if rules.is_unified and "instances" in legacy:
        asked_by_resource[_SERVERS] = 1
        used_by_resource[_SERVERS] = legacy["instances"][1]
    for resource, number in asked_by_resource.items():
        limit = limits.by_project.get(
            (project, resource), limits.defaults.get(resource)
        )
        if limit is not None or rules.counts_as_zero(resource):
            yield Shortage(
                resource,
                limit or 0,
                used_by_resource.get(resource, 0),
                number,
                limit is not None,
            )


def list_limited_classes(limits: Limits) -> dict[str, tuple[str, ...]]:
    """List the custom resource classes that have limits, without aliases."""
    names = {*limits.defaults, *(name for _, name in limits.by_project)}
    return {
        name.removeprefix(PREFIX): ()
        for name in sorted(names)
        if name.startswith(f"{PREFIX}CUSTOM_")
        or name in (f"{PREFIX}PGPU", f"{PREFIX}VGPU")
    }


def map_names_by_class(known: Iterable[Alias]) -> dict[str, tuple[str, ...]]:
    """Group the names of aliases by resource class, both sorted."""
    found: dict[str, list[str]] = {}
    for alias in known:
        found.setdefault(alias.resource_class, []).append(alias.name)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def list_project_quotas(
    uuid: str,
    name: str,
    classes: Mapping[str, tuple[str, ...]],
    limits: Limits,
    usages: Mapping[str, int],
) -> Iterator[Quota]:
    """Tell the quota of one project.

    :param classes: see :func:`map_names_by_class`.
    :param usages: of the project, by resource class.
    """
    for resource_class, names in classes.items():
        resource = PREFIX + resource_class
        own = limits.by_project.get((uuid, resource))
        yield Quota(
            name,
            resource_class,
            names,
            limits.defaults.get(resource) if own is None else own,
            own is not None,
            usages.get(resource_class, 0),
        )


def list_registrations(classes: Iterable[str], limits: Limits) -> list[str]:
    """Return the commands that register the limits that are missing.

    With 0 by default, a project needs a limit of its own to get a device.
    """
    return [
        "openstack registered limit create --service nova --default-limit 0"
        f" {PREFIX}{resource_class}"
        for resource_class in classes
        if PREFIX + resource_class not in limits.defaults
    ]
