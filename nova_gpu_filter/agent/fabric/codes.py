# SPDX-License-Identifier: Apache-2.0

"""What Fabric Manager answers, and what follows from it.

Source: ``fmReturn_t`` of NVIDIA's nv_fm_types.h (package
nvidia-fabricmanager-dev; of R575 with all of the codes below, of R450 with
those down to -10), and the return values of each function in nv_fm_agent.h.
"""

import dataclasses
import enum
from typing import Final


class Call(enum.StrEnum):
    """The functions of libnvfm.so that are called."""

    INIT = "fmLibInit"
    CONNECT = "fmConnect"
    DISCONNECT = "fmDisconnect"
    LIST = "fmGetSupportedFabricPartitions"
    ACTIVATE = "fmActivateFabricPartition"
    ACTIVATE_VFS = "fmActivateFabricPartitionWithVFs"
    DEACTIVATE = "fmDeactivateFabricPartition"
    SET_ACTIVATED = "fmSetActivatedFabricPartitions"


class Then(enum.Enum):
    """What follows from a code."""

    FAIL = "fail"
    """It will be the same the next time."""
    AGAIN = "again"
    """Fabric Manager is starting, or is away: ask again."""
    CONFIGURE = "configure"
    """It is not for the partition: a person has to change the host."""
    RECONNECT = "reconnect"
    """The connection is of no use any more: connect, and ask again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """One value of ``fmReturn_t``."""

    number: int
    name: str
    description: str
    """What the header says it means."""
    then: Then = Then.FAIL

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
        Then.CONFIGURE,
    ),
    # Of a function that takes a handle: this process has not called
    # fmLibInit, or fmLibShutdown came in between.
    Code(-4, "FM_ST_UNINITIALIZED", "not initialized", Then.RECONNECT),
    Code(-5, "FM_ST_TIMEOUT", "it timed out", Then.RECONNECT),
    Code(
        -6,
        "FM_ST_VERSION_MISMATCH",
        "versions of the API do not match",
        Then.CONFIGURE,
    ),
    Code(-7, "FM_ST_IN_USE", "in use"),
    Code(
        -8,
        "FM_ST_NOT_CONFIGURED",
        "Fabric Manager is initializing and has no data",
        Then.AGAIN,
    ),
    Code(
        -9,
        "FM_ST_CONNECTION_NOT_VALID",
        "the connection to Fabric Manager is not valid",
        Then.RECONNECT,
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
        Then.AGAIN,
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
    Code(-22, "FM_ST_NOT_READY", "Fabric Manager is not ready", Then.AGAIN),
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

ALREADY: Final = {
    Call.ACTIVATE: frozenset({IN_USE}),
    Call.ACTIVATE_VFS: frozenset({IN_USE}),
    Call.DEACTIVATE: frozenset({UNINITIALIZED}),
}
"""Codes that can mean that it was done before. Each has a second meaning: the
GPUs are in another active partition ("Activating a GPU Partition" of NVIDIA's
Fabric Manager User Guide), or the library is not initialized. So the list of
partitions decides."""


def find(number: int) -> Code:
    """Find a code; one of a newer header is a failure without words."""
    return CODES.get(
        number, Code(number, "fmReturn_t", "a code that is not known here")
    )
