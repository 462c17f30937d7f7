# SPDX-License-Identifier: Apache-2.0

"""Unified limits of the resource classes that aliases ask for."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import aliases

PREFIX: Final = "class:"
"""Of resource classes, where Nova looks for limits (nova/limit/placement.py).
"""


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


def names_by_class(
    known: Iterable[aliases.Alias],
) -> dict[str, tuple[str, ...]]:
    """Group the names of aliases by resource class, both sorted."""
    found: dict[str, list[str]] = {}
    for alias in known:
        found.setdefault(alias.resource_class, []).append(alias.name)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def of_project(
    uuid: str,
    name: str,
    classes: Mapping[str, tuple[str, ...]],
    limits: Limits,
    usages: Mapping[str, int],
) -> Iterator[Quota]:
    """Tell the quota of one project.

    :param classes: see :func:`names_by_class`.
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


def to_register(classes: Iterable[str], limits: Limits) -> list[str]:
    """Return the commands that register the limits that are missing.

    With 0 by default, a project needs a limit of its own to get a device.
    """
    return [
        "openstack registered limit create --service nova --default-limit 0"
        f" {PREFIX}{resource_class}"
        for resource_class in classes
        if PREFIX + resource_class not in limits.defaults
    ]
