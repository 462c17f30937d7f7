# SPDX-License-Identifier: Apache-2.0

"""What the agent asks of Fabric Manager, by whatever way.

A Fabric Manager that is restarted with FABRIC_MODE_RESTART waits for the list
of what is active, also where it is empty (fmSetActivatedFabricPartitions of
nv_fm_agent.h).
"""

import abc
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Final
from typing import TypeVar

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric import codes
from nova_gpu_filter.agent.fabric.owning import Phase
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

LOG = logging.getLogger(__name__)

_A = TypeVar("_A")

_PAUSE = 0.2
"""Seconds between two tries."""


class FabricError(errors.AgentError):
    """Fabric Manager did not do what it was asked."""

    message = "Fabric Manager (%(address)s): %(request)s: %(answer)s"


class NotReady(FabricError):
    """Fabric Manager is starting, or away; it may answer later."""


class Misconfigured(FabricError):
    """It is no fault of a partition: Fabric Manager, or the way to it, serves
    none like this.
    """


KINDS: Final[Mapping[codes.Then, type[FabricError]]] = {
    codes.Then.CONFIGURE: Misconfigured,
    codes.Then.AGAIN: NotReady,
    codes.Then.RECONNECT: NotReady,
}
"""What is raised for a code; :class:`FabricError` for all others."""


class NoLibrary(errors.AgentError):
    """Neither libnvfm.so nor fmpm can be used."""

    message = (
        "[gpu_agent]fabric_library = %(path)s: %(error)s; install the package"
        " nvidia-fabricmanager-dev of the version of Fabric Manager, which has"
        " it and fmpm, or unset [gpu_agent]fabric_manager on a host without"
        " NVSwitches"
    )


class Client(abc.ABC):
    """A connection to Fabric Manager; not safe to use from two threads."""

    def __init__(self, address: str) -> None:
        """Connect with the first question.

        :param address: ``127.0.0.1``, ``127.0.0.1:6666`` (IPv4), or the path
            of a Unix socket.
        """
        self.address = address
        self.is_unix = address.startswith("/")
        self.connections = 0
        """How often it has connected: Fabric Manager may have been restarted
        in between."""

    @abc.abstractmethod
    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        """List the partitions that there are, by their ids.

        :raises NotReady: it is not known now.
        :raises FabricError: it cannot be known.
        """

    @abc.abstractmethod
    def activate(self, partition: int, vfs: Sequence[PciAddress] = ()) -> None:
        """Activate a partition; one that is active is done.

        :param vfs: with them a partition of vGPUs, in the order of its GPUs.
        :raises NotReady: nothing was done, or it is not known.
        :raises FabricError: it is not active, in Fabric Manager's words.
        """

    @abc.abstractmethod
    def deactivate(self, partition: int) -> None:
        """Deactivate a partition; one that is not active is done.

        :raises FabricError: as with :meth:`activate`.
        """

    @abc.abstractmethod
    def set_activated(self, partitions: Collection[int]) -> None:
        """Say which partitions are active to one that was restarted.

        :raises FabricError: as with :meth:`activate`.
        """

    def has_partition(self, partition: int, is_active: bool) -> bool:
        """Ask whether a partition is active, or is not.

        :raises FabricError: as with :meth:`list_partitions`.
        """
        return any(
            one.id == partition and one.is_active == is_active
            for one in self.list_partitions()
        )

    def make_error(
        self, kind: type[FabricError], request: str, answer: object
    ) -> FabricError:
        """Make an error that names the address."""
        return kind(address=self.address, request=request, answer=answer)


@dataclasses.dataclass(slots=True)
class PartitionLister:
    """Lists the partitions, and says to a new Fabric Manager which are active;
    for one thread at a time.
    """

    ledger: ledger_lib.Ledger
    client: Client
    is_resilient: Callable[[], bool]
    informed: int | None = None
    """Which connection knows what is active."""

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        """List the partitions.

        :raises FabricError: Fabric Manager does not answer.
        """
        try:
            listed = self.client.list_partitions()
        except NotReady:
            is_known = self.client.connections == self.informed
            if is_known or not self.is_resilient():
                raise
        else:
            if self.client.connections == self.informed:
                return listed
        connection = self.client.connections
        if self.is_resilient():
            self._report_active()
            listed = self.client.list_partitions()
        self.informed = connection
        return listed

    def _report_active(self) -> None:
        active = [
            row.id
            for row in self.ledger.read_partitions().values()
            if row.phase is not Phase.ACTIVATING
        ]
        try:
            self.client.set_activated(active)
        except NotReady:
            raise
        except FabricError as error:
            # It was not restarted, and knows.
            LOG.info(
                "Active partitions not reported to Fabric Manager: %s", error
            )
        else:
            LOG.info(
                "Active partitions reported to Fabric Manager: %s", active
            )


def ask_until(
    question: Callable[[], _A],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> _A:
    """Ask again while Fabric Manager is not ready.

    :param seconds: how long; 0: once.
    :raises NotReady: it was not ready in that time.
    :raises FabricError: it has refused.
    """
    until = clock() + seconds
    while True:
        try:
            return question()
        except NotReady:
            left = until - clock()
            if left <= 0:
                raise
            pause(min(_PAUSE, left))
