# SPDX-License-Identifier: Apache-2.0

"""Which guest owns which partition: the rows of the ledger.

::

    prepare      +------------+  it is active   +--------+
   ------------->| activating |---------------->| active |
                 +------------+                 +--------+
                       |  refused                   |  the guest has left
                       v                            v
                 +-------------------------------------+  it is not active
                 |               leaving               |----------------->
                 +-------------------------------------+      no row

A row is written before Fabric Manager is asked to activate, and removed after
it has deactivated: whatever is killed in between, the ledger knows of each
partition that may be active for a guest.
"""

import dataclasses
import enum
from typing import Any

from nova_gpu_filter import printable


class Phase(enum.StrEnum):
    """Where a partition is between two guests."""

    ACTIVATING = "activating"
    """Fabric Manager is being asked."""
    ACTIVE = "active"
    """Fabric Manager has activated it."""
    LEAVING = "leaving"
    """It is to be deactivated."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ownership(printable.OneLineTexts):
    """A partition that a guest owns."""

    id: int
    """Of the partition, in Fabric Manager."""
    phase: Phase
    owner: str
    """UUID of the domain."""
    devices: frozenset[str]
    """PCI addresses of its GPUs."""
    vfs: tuple[str, ...]
    """PCI addresses of the guest's VFs, in the order of the GPUs; empty where
    it has the GPUs themselves."""
    boot: str
    """Which start of the host it is of: after another one nothing is active.
    """
    since: float
    """Seconds since 1970; nothing is decided by it."""

    def dump(self) -> tuple[Any, ...]:
        """Make a row of SQLite."""
        return (
            self.id,
            self.phase.value,
            self.owner,
            " ".join(sorted(self.devices)),
            " ".join(self.vfs),
            self.boot,
            self.since,
        )

    @classmethod
    def load(cls, row: tuple[Any, ...]) -> "Ownership":
        """Read what :meth:`dump` made.

        :raises ValueError: it is no such row.
        """
        id_, phase, owner, devices, vfs, boot, since = row
        return cls(
            int(id_),
            Phase(phase),
            owner,
            frozenset(devices.split()),
            tuple(vfs.split()),
            boot,
            float(since),
        )
