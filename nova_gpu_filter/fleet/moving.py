# SPDX-License-Identifier: Apache-2.0

"""What keeps a server from moving to another host, whatever is free there.

The rules are those of ``live_migrate`` and ``resize`` in nova/compute/api.py
and of ``_check_can_migrate_pci`` in nova/conductor/tasks/live_migrate.py.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
from typing import Final

from oslo_utils import strutils

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import memory_encryption
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict


class Way(enum.Enum):
    """How a server moves; the value is what operators type."""

    LIVE = "live"
    """While it runs."""
    COLD = "cold"
    """Stopped, and to be confirmed, as a resize is."""


_STATUSES: Final[Mapping[Way, tuple[str, ...]]] = {
    Way.LIVE: ("ACTIVE", "PAUSED"),
    Way.COLD: ("ACTIVE", "SHUTOFF"),
}
"""In which Nova's API takes the request; others are refused."""
_OTHER_WAY: Final = "with a cold migration"


@dataclasses.dataclass(frozen=True)
class Move:
    """A server that shall go to another host."""

    server: model.Server
    wanted: demand.Demand
    way: Way
    source: model.Host | None
    """Where it is; None where the host has no devices or is not known."""


def find_gates(move: Move) -> Iterator[verdict.Gate]:
    """Find what keeps a server where it is, whichever the other host."""
    server, way = move.server, move.way
    statuses = _STATUSES[way]
    if server.status not in statuses:
        yield verdict.Gate(
            f"a {way.value} migration needs status {' or '.join(statuses)};"
            f" {server.name} is {server.status}",
            f"with {server.name} {' or '.join(statuses)}",
            1,
        )
    if move.source is not None and move.source.is_down:
        yield verdict.Gate(
            f"nova-compute of {move.source.name}, where it is, is"
            f" {move.source.status}",
            "with an evacuation",
            1,
        )
    if way is Way.LIVE:
        yield from _live(move)


def _live(move: Move) -> Iterator[verdict.Gate]:
    """Find what Nova cannot do while the guest runs."""
    for asked in move.wanted.devices:
        if not asked.alias.live_migratable:
            yield verdict.Gate(
                f"alias {asked.alias.name} does not ask for devices that are"
                " live_migratable",
                _OTHER_WAY,
                1,
            )
    value = move.server.flavor.extra_specs.get(memory_encryption.KEY)
    if value is not None and strutils.bool_from_string(value):
        yield verdict.Gate(
            f"its memory is encrypted ({memory_encryption.KEY})",
            _OTHER_WAY,
            1,
        )


def describe_limits(move: Move) -> str:
    """Say what no API tells, and what to look at before a server moves."""
    if not move.wanted.devices:
        return ""
    if move.way is Way.LIVE:
        return (
            "not known from any API: whether [pci]device_spec of both hosts"
            " has live_migratable, and whether driver, libvirt and QEMU can"
            " move the state of the devices"
        )
    return (
        "the server keeps its devices on the source until it is confirmed,"
        " and gets others"
    )
