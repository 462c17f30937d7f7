# SPDX-License-Identifier: Apache-2.0

"""What projects use, by host."""

import collections
from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import summary

NOT_KNOWN = ""
"""In the place of the project, as long as Placement was not asked."""


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
