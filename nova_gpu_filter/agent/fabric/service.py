# SPDX-License-Identifier: Apache-2.0

"""The agent's part for the fabric: made of the options, and its thread."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import shutil
import threading
import time
from typing import Any
from typing import Final
import uuid as uuid_lib

from nova_gpu_filter import exception
from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent.fabric import audit
from nova_gpu_filter.agent.fabric import fabric_manager as fabric_manager_lib
from nova_gpu_filter.agent.fabric import fmpm
from nova_gpu_filter.agent.fabric import library
from nova_gpu_filter.agent.fabric import partition_of_guest
from nova_gpu_filter.agent.fabric import partitions as partitions_lib
from nova_gpu_filter.fleet import fabric_traits
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.sysfs import chips
from nova_gpu_filter.host.sysfs import packages
from nova_gpu_filter.host.sysfs import tree as tree_lib
from nova_gpu_filter.nova_rules import pci_options

LOG = logging.getLogger(__name__)

_CALL_SECONDS: Final = 5.0
"""How long to connect to Fabric Manager may take."""
_FMPM_SECONDS: Final = 60.0
"""How long a call of fmpm may take; it connects and activates."""
_MOMENT: Final = 0.5
"""Seconds that what does not agree has to last."""
_FMPM: Final = "fmpm"

Answer = dict[str, Any]
Consumers = Mapping[str, tuple[str, ...]]
"""PCI address -> who has it allocated in Placement."""


def connect(path: str, address: str) -> fabric_manager_lib.Client:
    """Choose the way to Fabric Manager.

    :param path: of libnvfm.so, or of fmpm.
    :raises NoLibrary: there is none.
    """
    if path.rpartition("/")[2] == _FMPM:
        if shutil.which(path) is None:
            raise fabric_manager_lib.NoLibrary(
                path=path, error="no such program"
            )
        return fmpm.Fmpm(path, address, _FMPM_SECONDS)
    try:
        return library.Library(path, address, _CALL_SECONDS)
    except fabric_manager_lib.NoLibrary as error:
        program = shutil.which(_FMPM)
        if program is None:
            raise
        LOG.warning("%s: %s is used instead", error, program)
        return fmpm.Fmpm(program, address, _FMPM_SECONDS)


class Service:
    """Answers the hook, and keeps Fabric Manager with what runs."""

    def __init__(
        self,
        options: Any,
        paths: Sequence[str],
        ledger: ledger_lib.Ledger,
        domains: domains_lib.Domains,
        on_suspects: Callable[[], None],
        root: str = "/",
    ) -> None:
        """Connect to nothing yet.

        :param options: the group ``[gpu_agent]``.
        :param paths: configuration files, with ``[pci]device_spec``.
        :param on_suspects: is called when devices are to be quarantined.
        :raises NoLibrary: there is no way to Fabric Manager.
        """
        self._options = options
        self._paths = paths
        self._ledger = ledger
        self._domains = domains
        self._on_suspects = on_suspects
        self._tree = tree_lib.Tree(root)
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._blind: str | None = None
        self._failure: str | None = None
        """What nobody has expected, and was logged."""
        self.partitions = partitions_lib.Partitions(
            ledger,
            connect(options.fabric_library, options.fabric_manager),
            self._read_partitions,
            lambda: fabric_manager.read_restarts(
                self._tree.read(fabric_manager.CONFIG)
            ),
            self._find_parent,
            options.fabric_deadline,
            bus_lib.read_boot(self._tree),
        )
        self._thread = threading.Thread(
            target=self._run, name="fabric", daemon=True
        )

    def _read_partitions(self) -> partition_of_guest.Partitions:
        if path := self._options.fabric_inventory:
            return partition_of_guest.read_inventory(path)
        return partition_of_guest.read_tags(pci_options.read(*self._paths))

    def _find_parent(self, device: str) -> str | None:
        """Find the PF of a VF (sriov.rst of the kernel: ``physfn``)."""
        target = self._tree.read_link_name(
            f"{address_lib.DEVICES}/{device}/physfn"
        )
        address = address_lib.find(target or "")
        return None if address is None else str(address)

    def _is_of_others(self, device: str) -> bool:
        """Whether a device is surely none of NVIDIA's. A guest without any
        starts whatever is wrong with what is known of partitions.
        """
        vendor = self._tree.read(f"{address_lib.DEVICES}/{device}/vendor")
        return vendor is not None and vendor != f"{chips.NVIDIA:#06x}"

    # -- its thread

    def start(self) -> None:
        """Manage the partitions in a thread of its own."""
        try:
            if not self._read_partitions():
                LOG.warning(
                    "No fabric partition is known, so that none is activated:"
                    " write the tags gpu_links into [pci]device_spec with"
                    " 'nova-gpu-host config --fabric', or set"
                    " [gpu_agent]fabric_inventory"
                )
        except exception.GpuFilterError as error:
            LOG.error("No guest with a GPU can start: %s", error)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is active stays active."""
        self._ended.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Have libvirt read now."""
        self._awake.set()

    def _run(self) -> None:
        due = 0.0
        while not self._ended.is_set():
            is_due = self._awake.is_set() or time.monotonic() >= due
            self._awake.clear()
            try:
                if is_due:
                    is_read = self.reconcile_running()
                    wait = self._options.interval if is_read else 0.0
                    due = time.monotonic() + wait
                else:
                    self.partitions.repair()
                if self._ledger.read_suspects():
                    self._on_suspects()
                self._failure = None
            except Exception as error:
                # It is tried again every few seconds.
                if self._failure != repr(error):
                    LOG.exception("Fabric partitions cannot be managed")
                self._failure = repr(error)
            self._awake.wait(self._options.fabric_interval)

    def reconcile_running(self) -> bool:
        """Read what runs, and have Fabric Manager agree.

        :returns: whether libvirt could be read.
        """
        mark = self.partitions.mark()
        try:
            running = self._domains.read_running()
        except exception.GpuFilterError as error:
            if self._blind != str(error):
                LOG.warning("Partitions stay as they are: %s", error)
            self._blind = str(error)
            self.partitions.repair()
            return False
        self._blind = None
        self.partitions.reconcile(running, mark)
        return True

    # -- what is asked

    def answer(
        self, request: Mapping[str, Any], consumers: Consumers | None
    ) -> Answer:
        """Answer the hook, and what people ask.

        :param consumers: of the devices; None: Placement cannot be read.
        :raises AgentError: the guest must not start, or nothing is known.
        """
        command = request.get("command")
        if command == "fabric-prepare":
            return self._prepare(request)
        if command == "fabric-release":
            self.partitions.release(_read_uuid(request))
            # What could not be done yet.
            self.wake()
            return {}
        if command in ("fabric-list", "fabric-audit"):
            return self._audit(consumers)
        raise errors.AgentError(reason=f"no command '{command}'")

    def _prepare(self, request: Mapping[str, Any]) -> Answer:
        uuid = _read_uuid(request)
        devices = {
            device
            for device in domains_lib.parse_hostdevs(str(request.get("xml")))
            if not self._is_of_others(device)
        }
        try:
            return {"partition": self.partitions.prepare(uuid, devices)}
        except exception.GpuFilterError as error:
            LOG.error("Domain %s must not start: %s", uuid, error)
            raise
        finally:
            if self._ledger.read_suspects():
                self._on_suspects()

    def name_traits(self, consumers: Consumers | None) -> frozenset[str]:
        """Name the traits of the host: Fabric Manager's version, and whether
        anything is wrong with the partitions.

        :raises AgentError: it cannot be known now.
        """
        version = packages.Packages(self._tree).fabric_manager
        found = set()
        if version is not None:
            found.add(fabric_traits.name_version(version.text))
        if self._audit(consumers)["problems"]:
            found.add(fabric_traits.PROBLEM)
        return frozenset(found)

    def _audit(self, consumers: Consumers | None) -> Answer:
        """List the partitions, and what is wrong with them.

        The truths are read one after the other while guests start and end:
        what is wrong is what is still so a moment later.
        """
        answer = self._compare(consumers)
        if before := answer["problems"]:
            self._ended.wait(_MOMENT)
            answer = self._compare(consumers)
            answer["problems"] = [
                one for one in answer["problems"] if one in before
            ]
        return answer

    def _compare(self, consumers: Consumers | None) -> Answer:
        known = self._read_partitions()
        gpus = frozenset().union(*known.values())
        running = {
            uuid: frozenset(
                one
                for device in devices
                for one in (device, self._find_parent(device))
                if one in gpus
            )
            for uuid, devices in self._domains.read_running().items()
        }
        listed = self.partitions.list_partitions()
        rows = self._ledger.read_partitions()
        found = audit.compare(
            audit.Truths(
                known,
                rows,
                {one.id for one in listed if one.is_active},
                running,
                consumers,
            )
        )
        return {
            "partitions": [
                {
                    "partition": one.id,
                    "active": one.is_active,
                    "server": rows[one.id].owner if one.id in rows else None,
                    "phase": rows[one.id].phase if one.id in rows else None,
                    "since": rows[one.id].since if one.id in rows else None,
                    "devices": sorted(known.get(one.id, ())),
                    "modules": [member.module_id for member in one.members],
                }
                for one in listed
            ],
            "problems": [dataclasses.asdict(one) for one in found],
            "placement": consumers is not None,
        }


def _read_uuid(request: Mapping[str, Any]) -> str:
    try:
        return str(uuid_lib.UUID(str(request.get("uuid"))))
    except ValueError:
        raise errors.AgentError(
            reason=f"{request.get('uuid')!r} is no UUID of a domain"
        ) from None
