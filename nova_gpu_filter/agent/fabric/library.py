# SPDX-License-Identifier: Apache-2.0

"""Asks Fabric Manager by its library libnvfm.so.

Functions and what each may answer: NVIDIA's nv_fm_agent.h (package
nvidia-fabricmanager-dev).
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
import ctypes
from typing import Any
from typing import Final

from nova_gpu_filter.agent.fabric import codes
from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import layouts
from nova_gpu_filter.agent.fabric.codes import Call
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

_HANDLE: Final = ctypes.c_void_p
_NUMBER: Final = ctypes.c_uint

_ARGUMENTS: Final[dict[Call, tuple[Any, ...]]] = {
    Call.INIT: (),
    # Of either version.
    Call.CONNECT: (ctypes.c_void_p, ctypes.POINTER(_HANDLE)),
    Call.DISCONNECT: (_HANDLE,),
    Call.LIST: (_HANDLE, ctypes.POINTER(layouts.PartitionList)),
    Call.ACTIVATE: (_HANDLE, _NUMBER),
    Call.ACTIVATE_VFS: (
        _HANDLE,
        _NUMBER,
        ctypes.POINTER(layouts.PciDevice),
        _NUMBER,
    ),
    Call.DEACTIVATE: (_HANDLE, _NUMBER),
    Call.SET_ACTIVATED: (_HANDLE, ctypes.POINTER(layouts.ActivatedList)),
}


class Library:
    """A :class:`fabric_manager.Client` on libnvfm.so."""

    def __init__(self, path: str, address: str, timeout: float) -> None:
        """Load the library; connect with the first question.

        :param path: of libnvfm.so, or its name.
        :param address: ``127.0.0.1``, ``127.0.0.1:6666`` (IPv4), or the path
            of a Unix socket.
        :param timeout: seconds that to connect may take.
        :raises NoLibrary: it cannot be loaded, or is another one.
        """
        self._address = address
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
        self.connections = 0

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        """List the partitions; see :class:`fabric_manager.Client`."""
        found = layouts.PartitionList()
        layouts.set_version(found)
        self._ask(Call.LIST, ctypes.byref(found))
        listed = (
            _read(partition)
            for partition in found.partitions[
                : min(found.count, layouts.PARTITIONS)
            ]
        )
        return tuple(sorted(listed, key=lambda one: one.id))

    def activate(self, partition: int, vfs: Sequence[PciAddress] = ()) -> None:
        """Activate a partition; see :class:`fabric_manager.Client`."""
        if vfs:
            devices = (layouts.PciDevice * len(vfs))(
                *(
                    layouts.PciDevice(
                        one.domain, one.bus, one.slot, one.function
                    )
                    for one in vfs
                )
            )
            self._change(Call.ACTIVATE_VFS, True, partition, devices, len(vfs))
        else:
            self._change(Call.ACTIVATE, True, partition)

    def deactivate(self, partition: int) -> None:
        """Deactivate a partition; see :class:`fabric_manager.Client`."""
        self._change(Call.DEACTIVATE, False, partition)

    def set_activated(self, partitions: Collection[int]) -> None:
        """Say which are active; see :class:`fabric_manager.Client`."""
        activated = layouts.ActivatedList()
        layouts.set_version(activated)
        activated.count = len(partitions)
        for index, partition in enumerate(sorted(partitions)):
            activated.ids[index] = partition
        self._ask(Call.SET_ACTIVATED, ctypes.byref(activated))

    def disconnect(self) -> None:
        """End the connection; see :class:`fabric_manager.Client`."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            # It is over whatever is answered.
            self._functions[Call.DISCONNECT](handle)

    def _change(
        self, call: Call, wanted: bool, partition: int, *more: Any
    ) -> None:
        """Activate or deactivate; the list decides where a code is unclear."""
        try:
            self._ask(call, partition, *more)
        except fabric_manager.FabricError as error:
            if error.number not in codes.ALREADY[call]:
                raise
            for one in self.list_partitions():
                if one.id == partition and one.is_active == wanted:
                    return
            raise

    def _ask(self, call: Call, *arguments: Any) -> None:
        handle = self._connect()
        number = self._functions[call](handle, *arguments)
        if number == codes.SUCCESS:
            return
        if codes.find(
            number
        ).then is codes.Then.RECONNECT and number not in codes.ALREADY.get(
            call, ()
        ):
            self.disconnect()
        request = call.value
        if call in codes.ALREADY:
            request += f" of partition {arguments[0]}"
        kind = fabric_manager.KINDS[codes.find(number).then]
        raise self._make_refusal(kind, request, number)

    def _make_refusal(
        self, kind: type[fabric_manager.FabricError], request: str, number: int
    ) -> fabric_manager.FabricError:
        error = kind(
            address=self._address, request=request, answer=codes.find(number)
        )
        error.number = number
        return error

    def _connect(self) -> Any:
        if self._handle is not None:
            return self._handle
        number = self._functions[Call.INIT]()
        # Another client of this process may have initialized it.
        if number not in (codes.SUCCESS, codes.IN_USE):
            raise self._make_connection_error(Call.INIT, number)
        handle = _HANDLE()
        for wanted in self._list_connection_parameters():
            number = self._functions[Call.CONNECT](
                ctypes.addressof(wanted), ctypes.byref(handle)
            )
            if number != codes.VERSION_MISMATCH:
                break
        if number != codes.SUCCESS:
            raise self._make_connection_error(Call.CONNECT, number)
        self._handle = handle
        self.connections += 1
        return handle

    def _make_connection_error(
        self, call: Call, number: int
    ) -> fabric_manager.FabricError:
        """Make an error: whatever the code is, no partition was asked for."""
        kind = fabric_manager.KINDS[codes.find(number).then]
        if not issubclass(kind, fabric_manager.NotReady):
            kind = fabric_manager.Misconfigured
        return self._make_refusal(kind, call.value, number)

    def _list_connection_parameters(
        self,
    ) -> Iterator[layouts.ConnectV1 | layouts.ConnectV2]:
        """Give the parameters of the newest library, then of older ones."""
        is_unix = self._address.startswith("/")
        for kind in (layouts.ConnectV2, layouts.ConnectV1):
            wanted = kind()
            layouts.set_version(wanted)
            try:
                wanted.address = self._address.encode()
            except ValueError:
                raise fabric_manager.Misconfigured(
                    address=self._address,
                    request=Call.CONNECT.value,
                    answer=f"longer than {layouts.STRING} bytes",
                ) from None
            wanted.timeout_ms = self._timeout_ms
            wanted.is_unix = is_unix
            if isinstance(wanted, layouts.ConnectV2):
                wanted.kind = layouts.UNIX if is_unix else layouts.INET
            yield wanted


def _read(partition: layouts.Partition) -> fabric_output.ListedPartition:
    members = tuple(
        fabric_output.Member.read(
            gpu.physical_id, gpu.bus_id.decode("ascii", "replace")
        )
        for gpu in partition.gpus[: min(partition.count, layouts.GPUS)]
    )
    return fabric_output.ListedPartition(
        partition.id, bool(partition.is_active), members
    )
