# SPDX-License-Identifier: Apache-2.0

"""What projects use, by resource class and by host.

Placement adds up what a project has: one request a project. In a large cloud
that is much, so only so many projects are asked each time, in turn; of the
others the last answer is kept.
"""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import identity as identity_
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import summary

NOT_KNOWN = ""
"""In the place of the project, as long as Placement was not asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What one project uses of one resource class."""

    project: str
    """UUID."""
    name: str
    resource_class: str
    used: int


class UsageReader:
    """Asks Keystone for the projects, and Placement for what they use."""

    def __init__(
        self, identity: api.Get, placement: api.Get, at_once: int
    ) -> None:
        """Nothing is asked yet.

        :param at_once: the most projects to ask Placement about each time.
        """
        self._identity = identity
        self._placement = placement
        self._at_once = at_once
        self._name_by_project: dict[str, str] = {}
        self._used_by_project: dict[str, Mapping[str, int]] = {}
        self._asked_in: dict[str, int] = {}
        self._turn = 0

    @property
    def names(self) -> Mapping[str, str]:
        """The names of the projects, by UUID, as last read."""
        return self._name_by_project

    def read_projects(self) -> None:
        """Ask Keystone for all projects.

        :raises FleetError: it does not tell.
        """
        self._name_by_project = identity_.read_projects(self._identity)
        for project in self._used_by_project.keys() - self._name_by_project:
            del self._used_by_project[project]
            del self._asked_in[project]

    def read_usage(self) -> tuple[Usage, ...]:
        """Ask Placement about those that were not asked about for longest.

        :returns: what is known of all projects, by UUID.
        :raises FleetError: it does not tell.
        """
        self._turn += 1
        next_ones = sorted(
            self._name_by_project,
            key=lambda project: (self._asked_in.get(project, 0), project),
        )[: self._at_once]
        ask = functools.partial(provider_trees.read_usages, self._placement)
        for project, used in api.ask_all(ask, next_ones):
            self._used_by_project[project] = used
            self._asked_in[project] = self._turn
        return tuple(
            Usage(project, self._name_by_project[project], name, number)
            for project, used in sorted(self._used_by_project.items())
            for name, number in sorted(used.items())
        )


@dataclasses.dataclass(frozen=True, slots=True)
class HostUsage:
    """What one project uses of one resource class on one host."""

    host: str
    resource_class: str
    model: str
    """As in the summary of the host."""
    project: str
    """UUID, or :data:`NOT_KNOWN`."""
    used: int


def sum_by_project(
    host: str, found: summary.ModelSummary, owners: ownership.Owners
) -> Iterator[HostUsage]:
    """Add up what projects have of a model on a host.

    :param host: its name.
    :returns: by project; their sum is what is used.
    """
    used: collections.Counter[str] = collections.Counter()
    for device in found.linked.devices:
        for owner in owners.get(device.uuid, ()):
            used[owner.project] += owner.amount
    used[NOT_KNOWN] = max(found.counts.used - used.total(), 0)
    for project, number in sorted(used.items()):
        if number:
            yield HostUsage(
                host, found.resource_class, found.model, project, number
            )
