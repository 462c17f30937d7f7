# SPDX-License-Identifier: Apache-2.0

"""The checks in their order, and on which nodes each of them applies."""

from collections.abc import Callable
import dataclasses
import functools

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from nova_gpu_filter import exception
from nova_gpu_filter.status import agreement
from nova_gpu_filter.status import client
from nova_gpu_filter.status import devices
from nova_gpu_filter.status import option_names
from nova_gpu_filter.status import pci
from nova_gpu_filter.status import placement_checks
from nova_gpu_filter.status import results
from nova_gpu_filter.status import scheduler_checks
from nova_gpu_filter.status.node import Node
from nova_gpu_filter.status.node import Role


@dataclasses.dataclass(frozen=True)
class _Row:
    """One line of the report."""

    name: str
    check: Callable[[Node], results.Result]
    roles: frozenset[Role] = frozenset(Role)
    """It applies to a node that has one of them."""
    of_placement: bool = False
    """Whether it applies only where PCI devices are in Placement."""


_CONTROLLER = frozenset({Role.CONTROLLER})
_COMPUTE = frozenset({Role.COMPUTE})

_ROWS = (
    _Row("Option names", option_names.check),
    _Row("Scheduler filter", scheduler_checks.check_filter, _CONTROLLER),
    _Row("Order of filters", scheduler_checks.check_order, _CONTROLLER),
    _Row("Weighers", scheduler_checks.check_weighers, _CONTROLLER),
    _Row("Lost claims", scheduler_checks.check_lost_claims, _CONTROLLER, True),
    _Row("Pool matcher", scheduler_checks.check_matcher, _CONTROLLER),
    _Row(
        "Extra spec validators", scheduler_checks.check_validators, _CONTROLLER
    ),
    _Row("PCI aliases", pci.check_aliases),
    _Row("PCI device specs", pci.check_device_specs, _COMPUTE),
    _Row("Aliases and device specs", agreement.check),
    _Row("PCI devices in Placement", pci.check_in_placement),
    _Row("Placement API", placement_checks.check_api),
    _Row("Scheduler workers", placement_checks.check_workers, _CONTROLLER),
    _Row("Devices reported before", placement_checks.check_reported, _COMPUTE),
    _Row(
        "Names in Placement", placement_checks.check_names, _CONTROLLER, True
    ),
    _Row("Placement extension", devices.check_extension, _CONTROLLER, True),
    _Row("Placement limits", devices.check_limits, _CONTROLLER, True),
    _Row("Races in Placement", devices.check_races, _CONTROLLER, True),
    _Row("Links of devices", devices.check_links, _CONTROLLER, True),
    _Row("Owners of devices", devices.check_owners, _CONTROLLER, True),
)


def _run(command: "UpgradeCommands", row: _Row) -> results.Result:
    """Run one check where it applies."""
    node = command.node
    if not node.roles & row.roles:
        return results.does_not_apply(
            f"this is no {' or '.join(sorted(row.roles))}; --role says"
            " otherwise."
        )
    if row.of_placement and not node.uses_placement:
        return results.does_not_apply(
            "PCI devices are not in Placement, see above."
        )
    try:
        return row.check(node)
    except client.PlacementError as exc:
        if row.check is placement_checks.check_api:
            return results.fail(str(exc))
        return results.warn(
            "Not checked: Placement does not answer, see above."
        )
    except (cfg.Error, exception.GpuFilterError) as exc:
        # A value that is not of the option's type, or makes no sense, is found
        # when it is read; the service would not start, either.
        return results.fail(str(exc))


class UpgradeCommands(upgradecheck.UpgradeCommands):
    """``nova-gpu-status upgrade``."""

    display_title = "GPU Scheduling Check Results"

    def __init__(self, make_node: Callable[[], Node]) -> None:
        """Take what makes the node, once its files are read."""
        super().__init__()
        self._make_node = make_node

    @functools.cached_property
    def node(self) -> Node:
        """The node that is checked."""
        return self._make_node()

    _upgrade_checks = tuple((row.name, (_run, {"row": row})) for row in _ROWS)
