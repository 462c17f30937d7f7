# SPDX-License-Identifier: Apache-2.0

"""Has Fabric Manager agree with the guests that run.

libvirt holds the lock of a domain while its hook runs, so that nothing here
that the hook waits for may ask libvirt, or wait for somebody who does:
:meth:`Partitions.reconcile` is given what was read before.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import threading
import time

from nova_gpu_filter import exception
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import partition_of_guest
from nova_gpu_filter.agent.fabric.owning import Ownership
from nova_gpu_filter.agent.fabric.owning import Phase
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output

LOG = logging.getLogger(__name__)

_PAUSE = 0.2
"""Seconds between two tries to prepare a partition."""

Running = Mapping[str, frozenset[str]]
"""UUID of a running domain -> PCI addresses of its devices."""


class Partitions:
    """The partitions of a compute node; safe to use from several threads."""

    def __init__(
        self,
        ledger: ledger_lib.Ledger,
        client: fabric_manager.Client,
        read_partitions: Callable[[], partition_of_guest.Partitions],
        is_resilient: Callable[[], bool],
        find_parent: Callable[[str], str | None],
        deadline: float,
        boot: str,
    ) -> None:
        """Forget what was active before the host was started.

        :param is_resilient: whether Fabric Manager, when it is restarted,
            waits for the list of what is active (FABRIC_MODE_RESTART).
        :param find_parent: the PF of a VF; None for other devices.
        :param deadline: seconds that a start waits for Fabric Manager to be
            ready.
        :param boot: which start of the host this is.
        """
        self._ledger = ledger
        self._client = client
        self._read_partitions = read_partitions
        self._lister = fabric_manager.PartitionLister(
            ledger, client, is_resilient
        )
        self._find_parent = find_parent
        self._deadline = deadline
        self._boot = boot
        self._lock = threading.RLock()
        self._changes = 0
        self._changed: dict[str, int] = {}
        """UUID -> the change with which a hook has last spoken of it."""
        self._preparing: set[str] = set()
        self._said: dict[object, str] = {}
        for row in ledger.read_partitions().values():
            if row.boot != boot:
                ledger.disown(row.id)

    # -- what the hook asks

    def prepare(self, uuid: str, devices: Collection[str]) -> int | None:
        """Activate the partition of a guest that is about to start.

        :param devices: PCI addresses of all its devices.
        :returns: the partition; None: it has no GPU of the fabric.
        :raises AgentError: it must not start; the message says why.
        """
        wanted = None
        if devices:
            wanted = self._make_row(self._read_partitions(), uuid, devices)
        with self._lock:
            self._note(uuid)
            self._preparing.add(uuid)
        try:
            if wanted is None:
                self.release(uuid)
                return None
            self._prepare_in_time(wanted)
            return wanted.id
        finally:
            with self._lock:
                self._preparing.discard(uuid)
                self._note(uuid)

    def _prepare_in_time(self, wanted: Ownership) -> None:
        """Prepare, again and again while Fabric Manager is not ready."""
        until = time.monotonic() + self._deadline
        while True:
            try:
                return self._prepare(wanted)
            except fabric_manager.NotReady:
                left = until - time.monotonic()
                if left <= 0:
                    self._withdraw(wanted)
                    raise
            time.sleep(min(_PAUSE, left))

    def _withdraw(self, wanted: Ownership) -> None:
        """Have a partition deactivated that may be active all the same."""
        with self._lock:
            row = self._ledger.read_partitions().get(wanted.id)
            if row is not None and row.owner == wanted.owner:
                self._set_phase(row, Phase.LEAVING)

    def _make_row(
        self,
        partitions: partition_of_guest.Partitions,
        uuid: str,
        devices: Collection[str],
    ) -> Ownership | None:
        """Find the partition of a guest; None: it has no GPU of the fabric.

        :raises NoPartition: its GPUs are none.
        """
        vfs = partition_of_guest.find_vfs(
            partitions, devices, self._find_parent
        )
        id_ = partition_of_guest.choose(partitions, {*devices, *vfs})
        if id_ is None:
            return None
        return Ownership(
            id_,
            Phase.ACTIVATING,
            uuid,
            partitions[id_],
            tuple(vfs[gpu] for gpu in sorted(vfs)),
            self._boot,
            time.time(),
        )

    def _prepare(self, wanted: Ownership) -> None:
        with self._lock:
            suspects = self._ledger.read_suspects()
            for device in sorted(wanted.devices & suspects.keys()):
                raise errors.Suspected(device=device, reason=suspects[device])
            listed = self._lister.list_partitions()
            vfs = self._check(wanted, listed)
            self._free_partitions(wanted)
            self._ledger.write_owner(wanted)
            try:
                self._activate(wanted, vfs)
            except fabric_manager.NotReady:
                raise
            except fabric_manager.FabricError as error:
                if not isinstance(error, fabric_manager.Misconfigured):
                    self._ledger.suspect(wanted.devices, str(error))
                self._leave(wanted)
                raise

    def _free_partitions(self, wanted: Ownership) -> None:
        """Take away what is in the way and of nobody any more."""
        for row in self._ledger.read_partitions().values():
            if row.owner == wanted.owner:
                if row.id == wanted.id:
                    continue
            elif not row.devices & wanted.devices:
                continue
            elif row.phase is not Phase.LEAVING:
                raise errors.Occupied(
                    partition=wanted.id, owner=row.owner, other=row.id
                )
            self._client.deactivate(row.id)
            self._ledger.disown(row.id)

    def release(self, uuid: str) -> None:
        """Deactivate what a guest owns, and nothing else.

        What cannot be deactivated now is with a later :meth:`repair`.
        """
        with self._lock:
            self._note(uuid)
            for row in self._ledger.read_partitions().values():
                if row.owner == uuid:
                    self._leave(row)

    # -- what the daemon does by itself

    def mark(self) -> int:
        """Begin to read what runs; see :meth:`reconcile`."""
        with self._lock:
            return self._changes

    def reconcile(self, running: Running, mark: int) -> bool:
        """Have the ledger and Fabric Manager agree with what runs.

        :param running: what was read after :meth:`mark` had given the mark.
            A guest of which a hook has spoken since is left alone.
        :returns: whether all agrees.
        """
        with self._lock:
            for row in self._ledger.read_partitions().values():
                if self._is_settled(row.owner, mark):
                    # Any GPU of the partition will do.
                    if running.get(row.owner, frozenset()).isdisjoint(
                        row.vfs or row.devices
                    ):
                        self._leave(row)
                    elif row.phase is not Phase.ACTIVE:
                        # It was killed before it could write that down, or
                        # the hook of another domain has come too late.
                        self._set_phase(row, Phase.ACTIVE)
            owners = self._read_owners()
            without = {
                uuid: devices
                for uuid, devices in running.items()
                if devices
                and uuid not in owners
                and self._is_settled(uuid, mark)
            }
            if without:
                self._adopt(without)
            # What was logged of domains that have ended, or own one now.
            gone = (self._said.keys() - running.keys()) | self._read_owners()
            for uuid in [one for one in self._said if isinstance(one, str)]:
                if uuid in gone:
                    del self._said[uuid]
            # What is read from now on has all of these.
            self._changed = {
                uuid: change
                for uuid, change in self._changed.items()
                if change > mark
            }
            return self.repair()

    def _read_owners(self) -> set[str]:
        return {row.owner for row in self._ledger.read_partitions().values()}

    def _is_settled(self, uuid: str, mark: int) -> bool:
        return (
            uuid not in self._preparing and self._changed.get(uuid, 0) <= mark
        )

    def _adopt(self, guests: Running) -> None:
        """Own the partitions of guests that run without one: their devices
        were attached while they were running, or the ledger was lost.
        """
        try:
            partitions = self._read_partitions()
        except exception.GpuFilterError as error:
            self._say(self._adopt, str(error))
            return
        self._said.pop(self._adopt, None)
        for uuid, devices in guests.items():
            try:
                self._adopt_one(partitions, uuid, devices)
            except exception.GpuFilterError as error:
                self._say(uuid, f"Domain {uuid}: {error}")

    def _adopt_one(
        self,
        partitions: partition_of_guest.Partitions,
        uuid: str,
        devices: frozenset[str],
    ) -> None:
        wanted = self._make_row(partitions, uuid, devices)
        if wanted is None:
            return
        for row in self._ledger.read_partitions().values():
            if row.devices & wanted.devices:
                raise errors.Occupied(
                    partition=wanted.id, owner=row.owner, other=row.id
                )
        self._set_phase(wanted, Phase.ACTIVE)
        LOG.info("Partition %s is of domain %s, which runs", wanted.id, uuid)

    def repair(self) -> bool:
        """Have Fabric Manager agree with the ledger.

        :returns: whether it does.
        """
        with self._lock:
            try:
                listed = self._lister.list_partitions()
            except exception.GpuFilterError as error:
                self._say(None, str(error))
                return False
            self._said.pop(None, None)
            active = {one.id for one in listed if one.is_active}
            done = True
            for row in self._ledger.read_partitions().values():
                if row.phase is Phase.LEAVING:
                    done &= self._leave(row)
                elif row.phase is Phase.ACTIVE and row.id not in active:
                    done &= self._activate_again(row, listed)
            return done

    def _activate_again(
        self, row: Ownership, listed: Collection[fabric_output.ListedPartition]
    ) -> bool:
        """Activate what Fabric Manager has forgotten."""
        name = f"Partition {row.id} of {row.owner}"
        try:
            self._activate(row, self._check(row, listed))
        except exception.GpuFilterError as error:
            is_new = self._say(
                row.id, f"{name} is not active in Fabric Manager: {error}"
            )
            # The list is there, and it is neither NotReady nor Misconfigured:
            # the partition fails. Once is enough, so that a person can
            # release its GPUs.
            if is_new and type(error) is fabric_manager.FabricError:
                self._ledger.suspect(row.devices, str(error))
            return False
        self._said.pop(row.id, None)
        LOG.warning("%s was forgotten by Fabric Manager", name)
        return True

    # -- what all of these do

    def list_partitions(self) -> tuple[fabric_output.ListedPartition, ...]:
        """List what Fabric Manager has.

        :raises FabricError: it does not say.
        """
        with self._lock:
            return self._lister.list_partitions()

    def _check(
        self, row: Ownership, listed: Collection[fabric_output.ListedPartition]
    ) -> list[PciAddress]:
        """Hold a partition against Fabric Manager's list.

        :returns: the VFs with which it is to be activated, in their order.
        :raises AgentError: it is another one there.
        """
        found = partition_of_guest.check(row.id, row.devices, listed)
        return partition_of_guest.order_vfs(
            row.id, row.vfs, found, self._find_parent
        )

    def _activate(self, row: Ownership, vfs: Sequence[PciAddress]) -> None:
        self._client.activate(row.id, vfs)
        self._set_phase(row, Phase.ACTIVE)
        LOG.info("Partition %s is active for %s", row.id, row.owner)

    def _leave(self, row: Ownership) -> bool:
        """Deactivate a partition, or have it done later."""
        if row.phase is not Phase.LEAVING:
            self._set_phase(row, Phase.LEAVING)
        try:
            self._client.deactivate(row.id)
        except fabric_manager.FabricError as error:
            self._say(row.id, str(error))
            return False
        self._ledger.disown(row.id)
        self._said.pop(row.id, None)
        LOG.info("Partition %s of %s is not active", row.id, row.owner)
        return True

    def _set_phase(self, row: Ownership, phase: Phase) -> None:
        self._ledger.write_owner(dataclasses.replace(row, phase=phase))

    def _note(self, uuid: str) -> None:
        self._changes += 1
        self._changed[uuid] = self._changes

    def _say(self, about: object, text: str) -> bool:
        """Log something that stays as it is once.

        :returns: whether it was logged.
        """
        if self._said.get(about) == text:
            return False
        self._said[about] = text
        LOG.warning("Fabric partitions: %s", text)
        return True
