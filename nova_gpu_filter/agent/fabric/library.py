# SPDX-License-Identifier: Apache-2.0

"""Asks Fabric Manager by its library libnvfm.so.

Functions and what each may answer: NVIDIA's nv_fm_agent.h (package
nvidia-fabricmanager-dev). Memory layouts that they expect: the structures of
its nv_fm_types.h, and "Fabric Manager SDK" in NVIDIA's Fabric Manager User
Guide. All numbers are ``unsigned int``.
"""

from collections.abc import Collection
from collections.abc import Sequence
import ctypes
import enum
from typing import Any
from typing import Final

from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

STRING: Final = 256
UUID: Final = 80
BUS_ID: Final = 32
GPUS: Final = 16
PARTITIONS: Final = 64
INET: Final = 1
UNIX: Final = 2
"""Kinds of an address in :class:`ConnectV2`."""


class _Versioned(ctypes.Structure):
    """Begins with its own size in the low 24 bits, and its number above them
    (MAKE_FM_PARAM_VERSION of the header).
    """

    _fields_ = [("version", ctypes.c_uint)]
    number = 1

    def __init__(self, **fields: Any) -> None:
        version = ctypes.sizeof(self) | self.number << 24
        super().__init__(version=version, **fields)


class ConnectV1(_Versioned):
    """``fmConnectParams_v1``, of releases before R580."""

    _fields_ = [
        ("address", ctypes.c_char * STRING),
        ("timeout_ms", ctypes.c_uint),
        ("is_unix", ctypes.c_uint),
    ]


class ConnectV2(ConnectV1):
    """``fmConnectParams_v2``."""

    _fields_ = [("kind", ctypes.c_int)]
    number = 2


class PciDevice(ctypes.Structure):
    """``fmPciDevice_t``."""

    _fields_ = [
        (name, ctypes.c_uint)
        for name in ("domain", "bus", "device", "function")
    ]


class Gpu(ctypes.Structure):
    """``fmFabricPartitionGpuInfo_t``."""

    _fields_ = [
        ("physical_id", ctypes.c_uint),
        ("uuid", ctypes.c_char * UUID),
        ("bus_id", ctypes.c_char * BUS_ID),
        ("links_available", ctypes.c_uint),
        ("links_most", ctypes.c_uint),
        ("line_rate_mbps", ctypes.c_uint),
    ]


class Partition(ctypes.Structure):
    """``fmFabricPartitionInfo_t``."""

    _fields_ = [
        ("id", ctypes.c_uint),
        ("is_active", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("gpus", Gpu * GPUS),
    ]


class PartitionList(_Versioned):
    """``fmFabricPartitionList_v2``, whose version is 1 all the same."""

    _fields_ = [
        ("count", ctypes.c_uint),
        ("most", ctypes.c_uint),
        ("partitions", Partition * PARTITIONS),
    ]


class ActivatedList(_Versioned):
    """``fmActivatedFabricPartitionList_v1``."""

    _fields_ = [("count", ctypes.c_uint), ("ids", ctypes.c_uint * PARTITIONS)]


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


_ALREADY: Final = {
    Call.ACTIVATE: fabric_manager.IN_USE,
    Call.ACTIVATE_VFS: fabric_manager.IN_USE,
    Call.DEACTIVATE: fabric_manager.UNINITIALIZED,
}
"""The code that can mean that it was done before. Each has a second meaning:
the GPUs are in another active partition ("Activating a GPU Partition" of
NVIDIA's Fabric Manager User Guide), or the library is not initialized. So the
list of partitions decides."""

_HANDLE: Final = ctypes.c_void_p
_NUMBER: Final = ctypes.c_uint

_ARGUMENTS: Final[dict[Call, tuple[Any, ...]]] = {
    Call.INIT: (),
    # Of either version.
    Call.CONNECT: (ctypes.c_void_p, ctypes.POINTER(_HANDLE)),
    Call.DISCONNECT: (_HANDLE,),
    Call.LIST: (_HANDLE, ctypes.POINTER(PartitionList)),
    Call.ACTIVATE: (_HANDLE, _NUMBER),
    Call.ACTIVATE_VFS: (_HANDLE, _NUMBER, ctypes.POINTER(PciDevice), _NUMBER),
    Call.DEACTIVATE: (_HANDLE, _NUMBER),
    Call.SET_ACTIVATED: (_HANDLE, ctypes.POINTER(ActivatedList)),
}


class Library(fabric_manager.Client):
    """Fabric Manager, by libnvfm.so."""

    def __init__(self, path: str, address: str, timeout: float) -> None:
        """Load the library; connect with the first question.

        :param path: of libnvfm.so, or its name.
        :param timeout: seconds that to connect may take.
        :raises NoLibrary: it cannot be loaded, or is another one.
        """
        super().__init__(address)
        self._timeout_ms = max(1, round(timeout * 1000))
        try:
            library = ctypes.CDLL(path)
            self._functions = {
                call: getattr(library, call.value) for call in Call
            }
        except (OSError, AttributeError) as error:
            raise fabric_manager.NoLibrary(path=path, error=error) from error
        for call, function in self._functions.items():
            function.argtypes = _ARGUMENTS[call]
            function.restype = ctypes.c_int
        self._handle: Any = None

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        found = PartitionList()
        number = self._call(Call.LIST, ctypes.byref(found))
        self._check(number, Call.LIST.value)
        listed = (
            _read(partition)
            for partition in found.partitions[: min(found.count, PARTITIONS)]
        )
        return tuple(sorted(listed, key=lambda one: one.id))

    def activate(self, partition: int, vfs: Sequence[PciAddress] = ()) -> None:
        if vfs:
            devices = (PciDevice * len(vfs))(
                *(
                    PciDevice(one.domain, one.bus, one.slot, one.function)
                    for one in vfs
                )
            )
            self._change(Call.ACTIVATE_VFS, True, partition, devices, len(vfs))
        else:
            self._change(Call.ACTIVATE, True, partition)

    def deactivate(self, partition: int) -> None:
        self._change(Call.DEACTIVATE, False, partition)

    def set_activated(self, partitions: Collection[int]) -> None:
        activated = ActivatedList()
        activated.count = len(partitions)
        for index, partition in enumerate(sorted(partitions)):
            activated.ids[index] = partition
        number = self._call(Call.SET_ACTIVATED, ctypes.byref(activated))
        self._check(number, Call.SET_ACTIVATED.value)

    def disconnect(self) -> None:
        """End the connection; the next question makes a new one."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            # It is over whatever is answered.
            self._functions[Call.DISCONNECT](handle)

    def _change(
        self, call: Call, wanted: bool, partition: int, *more: Any
    ) -> None:
        """Activate or deactivate; the list decides where a code is unclear."""
        number = self._call(call, partition, *more)
        is_unclear = number == _ALREADY[call]
        if not (is_unclear and self.has_partition(partition, wanted)):
            self._check(number, f"{call.value} of partition {partition}")

    def _call(self, call: Call, *arguments: Any) -> int:
        """Call a function, and hang up where its code asks for it."""
        number = self._functions[call](self._connect(), *arguments)
        kind = fabric_manager.find_code(number).kind
        is_unclear = number == _ALREADY.get(call)
        if kind is fabric_manager.Disconnected and not is_unclear:
            self.disconnect()
        return int(number)

    def _check(
        self,
        number: int,
        request: str,
        failure: type[fabric_manager.FabricError] = fabric_manager.FabricError,
    ) -> None:
        """Raise what follows from a code.

        :param failure: where it is neither the host's fault nor a moment's.
        """
        if number == fabric_manager.SUCCESS:
            return
        code = fabric_manager.find_code(number)
        is_plain = code.kind is fabric_manager.FabricError
        raise self.make_error(
            failure if is_plain else code.kind, request, code
        )

    def _connect(self) -> Any:
        if self._handle is not None:
            return self._handle
        # Whatever a code is here, no partition was asked for.
        failure = fabric_manager.Misconfigured
        number = self._functions[Call.INIT]()
        # Another client of this process may have initialized it.
        if number != fabric_manager.IN_USE:
            self._check(number, Call.INIT.value, failure)
        handle = _HANDLE()
        # The parameters of the newest library, then of older ones.
        for kind in (ConnectV2, ConnectV1):
            wanted = self._make_parameters(kind)
            number = self._functions[Call.CONNECT](
                ctypes.addressof(wanted), ctypes.byref(handle)
            )
            if number != fabric_manager.VERSION_MISMATCH:
                break
        self._check(number, Call.CONNECT.value, failure)
        self._handle = handle
        self.connections += 1
        return handle

    def _make_parameters(self, kind: type[ConnectV1]) -> ConnectV1:
        try:
            wanted = kind(
                address=self.address.encode(),
                timeout_ms=self._timeout_ms,
                is_unix=self.is_unix,
            )
        except ValueError:
            raise self.make_error(
                fabric_manager.Misconfigured,
                Call.CONNECT.value,
                f"longer than {STRING} bytes",
            ) from None
        if isinstance(wanted, ConnectV2):
            wanted.kind = UNIX if self.is_unix else INET
        return wanted


def _read(partition: Partition) -> fabric_output.ListedPartition:
    members = tuple(
        fabric_output.Member.read(
            gpu.physical_id, gpu.bus_id.decode("ascii", "replace")
        )
        for gpu in partition.gpus[: min(partition.count, GPUS)]
    )
    return fabric_output.ListedPartition(
        partition.id, bool(partition.is_active), members
    )
