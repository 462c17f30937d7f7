# SPDX-License-Identifier: Apache-2.0

"""Asks Fabric Manager by the program ``fmpm``, where its library is missing.

``fmpm`` is the sample program of NVIDIA's package nvidia-fabricmanager-dev:
``-l`` lists the partitions as JSON, ``-a`` and ``-d`` activate and deactivate
one, ``--set-activated-list`` says which are active; ``--hostname`` and
``--unix-domain-socket`` name the address. Where a call was refused it prints
"fmReturn: -8", and ends with another code than 0.
"""

from collections.abc import Collection
from collections.abc import Sequence
import re
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter.agent import hooks
from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

_CODE: Final = re.compile(r"fmReturn:?\s*(-[0-9]+)")
_NO_CONNECTION: Final = "Failed to connect to Fabric Manager"


class Fmpm(fabric_manager.Client):
    """Fabric Manager, by the program ``fmpm``: each call connects anew."""

    def __init__(self, path: str, address: str, timeout: float) -> None:
        """Nothing is asked yet.

        :param path: of the program, or its name.
        :param timeout: seconds that one call may take.
        """
        super().__init__(address)
        self._timeout = timeout
        option = "--unix-domain-socket" if self.is_unix else "--hostname"
        self._command = (path, option, address)
        self._is_away = True

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        try:
            return fabric_output.parse("fmpm -l", self._ask("-l"))
        except exception.BadInput as error:
            raise self.make_error(
                fabric_manager.Misconfigured, "fmpm -l", error
            ) from error

    def activate(self, partition: int, vfs: Sequence[PciAddress] = ()) -> None:
        if vfs:
            raise self.make_error(
                fabric_manager.Misconfigured,
                "fmpm -a",
                "partitions of vGPUs need the library libnvfm.so",
            )
        self._change("-a", partition, True)

    def deactivate(self, partition: int) -> None:
        self._change("-d", partition, False)

    def set_activated(self, partitions: Collection[int]) -> None:
        text = ",".join(map(str, sorted(partitions)))
        self._ask("--set-activated-list", text)

    def _change(self, option: str, partition: int, wanted: bool) -> None:
        try:
            self._ask(option, str(partition))
        except fabric_manager.NotReady:
            raise
        except fabric_manager.FabricError:
            # Whether it was so before is not to be seen from the answer.
            if not self.has_partition(partition, wanted):
                raise

    def _ask(self, *arguments: str) -> str:
        problem, said = hooks.run((*self._command, *arguments), self._timeout)
        match = _CODE.search(said)
        code = fabric_manager.find_code(int(match[1])) if match else None
        if problem is None and code is None:
            if self._is_away:
                self._is_away = False
                self.connections += 1
            return said
        # Without a code it is the program that fails, and no partition.
        kind = code.kind if code else fabric_manager.Misconfigured
        if _NO_CONNECTION in said:
            self._is_away = True
            kind = fabric_manager.NotReady
        elif issubclass(kind, fabric_manager.NotReady):
            # Another one than before may be starting.
            self._is_away = False
            self.connections += 1
        request = f"fmpm {' '.join(arguments)}"
        raise self.make_error(kind, request, code or problem)
