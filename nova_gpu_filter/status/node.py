# SPDX-License-Identifier: Apache-2.0

"""The node that is checked: its configuration, its roles, its Placement."""

import dataclasses
import enum
import functools

from oslo_config import cfg

from nova_gpu_filter.status import client
from nova_gpu_filter.status import survey


class Role(enum.StrEnum):
    """What runs on a node."""

    CONTROLLER = "controller"
    """nova-api, nova-scheduler or nova-conductor."""
    COMPUTE = "compute"
    """nova-compute."""


_SCHEDULER_OPTIONS = ("available_filters", "enabled_filters", "weight_classes")


@dataclasses.dataclass(frozen=True)
class Node:
    """A node, for the checks."""

    conf: cfg.ConfigOpts
    """Nova's configuration with our options, as its files say."""
    roles: frozenset[Role]
    placement_conf: str | None = None
    """The placement.conf to read, where one is given."""
    placement: client.Client = dataclasses.field(default_factory=client.Client)
    """Asked with the credentials of ``[placement]``."""

    @functools.cached_property
    def survey(self) -> survey.Survey:
        """What Placement tells of devices.

        :raises PlacementError: it does not answer.
        """
        return survey.read(self.placement)

    @property
    def uses_placement(self) -> bool:
        """Whether PCI devices are in Placement, for this node."""
        return bool(
            self.conf.filter_scheduler.pci_in_placement
            or self.conf.pci.report_in_placement
        )

    def says(self, option: str, group: str) -> bool:
        """Tell whether a file sets an option, to whatever value."""
        location = self.conf.get_location(option, group)
        return location is not None and location.location.is_user_controlled


def find_roles(conf: cfg.ConfigOpts) -> frozenset[Role]:
    """Find what runs on a node.

    Only nova-compute reads ``[pci]device_spec``; the options of the scheduler
    are of no use to it. A node whose files have neither is a controller: the
    checks that miss something there say so.
    """
    roles = set()
    node = Node(conf, frozenset())
    if conf.pci.device_spec or node.says("report_in_placement", "pci"):
        roles.add(Role.COMPUTE)
    if not roles or any(
        node.says(option, "filter_scheduler") for option in _SCHEDULER_OPTIONS
    ):
        roles.add(Role.CONTROLLER)
    return frozenset(roles)
