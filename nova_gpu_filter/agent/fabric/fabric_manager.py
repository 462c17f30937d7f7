# SPDX-License-Identifier: Apache-2.0

"""What the agent asks of Fabric Manager, and what it answers, by whatever way.

Sources: ``fmReturn_t`` of NVIDIA's nv_fm_types.h (package
nvidia-fabricmanager-dev; of R575 with all of the codes below, of R450 with
those down to -10), and the return values of each function in nv_fm_agent.h. A
Fabric Manager that is restarted with FABRIC_MODE_RESTART waits for the list of
what is active, also where it is empty (fmSetActivatedFabricPartitions).
"""

import abc
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
import logging
from typing import Final

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric.owning import Phase
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

LOG = logging.getLogger(__name__)


class FabricError(errors.AgentError):
    """Fabric Manager did not do what it was asked."""

    message = "Fabric Manager (%(address)s): %(request)s: %(answer)s"


class NotReady(FabricError):
    """Fabric Manager is starting, or away; it may answer later."""


class Disconnected(NotReady):
    """The connection is of no use any more: connect, and ask again."""


class Misconfigured(FabricError):
    """It is no fault of a partition: Fabric Manager, or the way to it, serves
    none like this.
    """


class NoLibrary(errors.AgentError):
    """Neither libnvfm.so nor fmpm can be used."""

    message = (
        "[gpu_agent]fabric_library = %(path)s: %(error)s; install the package"
        " nvidia-fabricmanager-dev of the version of Fabric Manager, which has"
        " it and fmpm, or unset [gpu_agent]fabric_manager on a host without"
        " NVSwitches"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """One value of ``fmReturn_t``."""

    number: int
    name: str
    description: str
    """What the header says it means."""
    kind: type[FabricError] = FabricError
    """What it is raised as."""

    def __str__(self) -> str:
        return f"{self.name} ({self.number}): {self.description}"


_ROWS: Final = (
    Code(0, "FM_ST_SUCCESS", "it was successful"),
    Code(-1, "FM_ST_BADPARAM", "an argument is invalid"),
    Code(-2, "FM_ST_GENERIC_ERROR", "an unspecified error"),
    Code(
        -3,
        "FM_ST_NOT_SUPPORTED",
        "not supported, or not enabled",
        Misconfigured,
    ),
    # Of a function that takes a handle: this process has not called
    # fmLibInit, or fmLibShutdown came in between.
    Code(-4, "FM_ST_UNINITIALIZED", "not initialized", Disconnected),
    Code(-5, "FM_ST_TIMEOUT", "it timed out", Disconnected),
    Code(
        -6,
        "FM_ST_VERSION_MISMATCH",
        "versions of the API do not match",
        Misconfigured,
    ),
    Code(-7, "FM_ST_IN_USE", "in use"),
    Code(
        -8,
        "FM_ST_NOT_CONFIGURED",
        "Fabric Manager is initializing and has no data",
        NotReady,
    ),
    Code(
        -9,
        "FM_ST_CONNECTION_NOT_VALID",
        "the connection to Fabric Manager is not valid",
        Disconnected,
    ),
    Code(-10, "FM_ST_NVLINK_ERROR", "an NVLink error, or its training failed"),
    Code(-11, "FM_ST_RESOURCE_BAD", "a resource does not exist"),
    Code(-12, "FM_ST_RESOURCE_IN_USE", "a resource is in use"),
    Code(-13, "FM_ST_RESOURCE_NOT_IN_USE", "a resource is not in use"),
    Code(-14, "FM_ST_RESOURCE_EXHAUSTED", "not enough of a resource"),
    Code(
        -15,
        "FM_ST_RESOURCE_NOT_READY",
        "a resource is not ready to be used",
        NotReady,
    ),
    Code(-16, "FM_ST_PARTITION_EXISTS", "the partition exists"),
    Code(-17, "FM_ST_PARTITION_ID_IN_USE", "the partition's id is in use"),
    Code(-18, "FM_ST_PARTITION_ID_NOT_IN_USE", "no partition has this id"),
    Code(-19, "FM_ST_PARTITION_NAME_IN_USE", "the partition's name is in use"),
    Code(-20, "FM_ST_PARTITION_NAME_NOT_IN_USE", "no partition has this name"),
    Code(
        -21,
        "FM_ST_PARTITION_ID_NAME_MISMATCH",
        "id and name are of two partitions",
    ),
    Code(-22, "FM_ST_NOT_READY", "Fabric Manager is not ready", NotReady),
    Code(
        -23,
        "FM_ST_RESOURCE_USED_IN_THIS_PARTITION",
        "a resource is in use in this partition",
    ),
    Code(
        -24,
        "FM_ST_RESOURCE_USED_IN_ANOTHER_PARTITION",
        "a resource is in use in another partition",
    ),
    Code(-25, "FM_ST_PARTITION_MISWIRED_TRUNKS", "trunks are miswired"),
    Code(-26, "FM_ST_PARTITION_INSUFFICIENT_TRUNKS", "too few trunks"),
    Code(-27, "FM_ST_PARTITION_MISSING_SWITCHES", "switches are missing"),
    Code(
        -28,
        "FM_ST_PARTITION_NETWORK_CONFIG_ERROR",
        "the network's configuration has an error",
    ),
    Code(
        -29,
        "FM_ST_PARTITION_ROUTE_PROGRAMMING_ERROR",
        "routes could not be programmed",
    ),
)
CODES: Final = {code.number: code for code in _ROWS}
"""By their numbers."""

SUCCESS: Final = 0
UNINITIALIZED: Final = -4
VERSION_MISMATCH: Final = -6
IN_USE: Final = -7


def find_code(number: int) -> Code:
    """Find a code; one of a newer header is a failure without words."""
    return CODES.get(
        number, Code(number, "fmReturn_t", "a code that is not known here")
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
            is_resilient = True
        else:
            if self.client.connections == self.informed:
                return listed
            is_resilient = self.is_resilient()
        connection = self.client.connections
        if is_resilient:
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
