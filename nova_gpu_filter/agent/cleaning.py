# SPDX-License-Identifier: Apache-2.0

"""Cleans a device that no server has, checks it, and gives it back."""

from collections.abc import Collection
from collections.abc import Iterator
import dataclasses
import logging
import os
import re
import shutil
import time
from typing import Final

from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import hooks
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import State
from nova_gpu_filter.agent.states import Step
from nova_gpu_filter.host import hook_programs

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    problem: str | None
    """Why the device must not be given away; None: it is clean."""
    baseline: str = ""
    """Its health, for the ledger."""
    keeps_memory: bool = False
    """Neither a tool nor a hook has run that can have cleared its memory."""


_QUESTIONS: Final = (
    # "nvidia-smi --help-query-remapped-rows" and "--help-query-gpu".
    (
        "--query-remapped-rows",
        "remapped_rows.failure",
        "a row of its memory could not be remapped",
    ),
    (
        "--query-remapped-rows",
        "remapped_rows.pending",
        "a row of its memory waits for a reset to be remapped",
    ),
    (
        "--query-gpu",
        "ecc.errors.uncorrected.volatile.total",
        "uncorrected errors of its memory since the reset",
    ),
    # What NVLink, Xid and contained errors ask for: Reset, Reboot, Drain P2P,
    # Drain and Reset. Older drivers do not know it.
    ("--query-gpu", "gpu_recovery_action", "its driver wants it to recover"),
)
"""What ``nvidia-smi`` is asked of a GPU that the driver has: option, field,
what is wrong where the answer is none of :data:`_GOOD`."""
_UNKNOWN_FIELD: Final = "is not a valid field to query"
"""What ``nvidia-smi`` says, with exit code 2, of a field that it lacks."""
_GOOD: Final = frozenset(
    {"", "0", "no", "none", "n/a", "[n/a]", "[not supported]", "not supported"}
)
"""Answers, in lower case, that are no trouble."""
_TOOL_ERROR: Final = re.compile(r"^\S+ (?:ERROR|CRITICAL) +(.*)", re.MULTILINE)
"""How NVIDIA's tool logs what went wrong. That a GPU's memory cannot be
cleared, or its bus not be reset, it logs so, and ends with 0 (cli/main.py,
cli/per_gpu.py and cli/per_device.py of gpu-admin-tools v2025.10.20)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaner:
    """Cleans devices, each by itself; safe to use from several threads.

    For what its fields mean see the options of ``[gpu_agent]``.
    """

    bus: bus_lib.Bus
    hooks: str
    """The directory that has those of the hooks."""
    hook_seconds: float
    tool_seconds: float
    settle_seconds: float
    """How long a device may take to answer after a reset."""
    corrected_errors: int
    gpu_admin_tools: str
    """Path of nvidia_gpu_tools.py; empty: it is not used."""

    def clean(
        self, record: states.Record, held: Collection[str], is_shared: bool
    ) -> Result:
        """Clean and check a device.

        :param held: addresses of devices that servers have.
        :param is_shared: the device is a PF whose VFs are given away: it is
            checked, and not reset.
        """
        for problem in self._prepare(record, held, is_shared):
            if problem is not None:
                return Result(problem)
        before = bus_lib.Health.load(record.baseline)
        now = self._settle(record.address)
        if problems := bus_lib.compare(before, now, self.corrected_errors):
            return Result("; ".join(problems))
        for problem in self._finish(record):
            if problem is not None:
                return Result(problem)
        return Result(
            None,
            now.dump(),
            # A PF has no server, its VFs have.
            keeps_memory=not is_shared
            and not self._uses_tool(record.address)
            and not has_hooks(self.hooks),
        )

    def _prepare(
        self, record: states.Record, held: Collection[str], is_shared: bool
    ) -> Iterator[str | None]:
        yield self._run_hooks(hook_programs.BEFORE, record)
        if is_shared:
            return
        if self._uses_tool(record.address):
            yield self._clear_memory(record.address)
        problem = self._reset(record.address, held)
        yield problem and f"it cannot be reset: {problem}"

    def _finish(self, record: states.Record) -> Iterator[str | None]:
        if self._has_driver(record.address):
            yield from self._ask_driver(record.address)
        yield self._run_hooks(hook_programs.AFTER, record)

    def _uses_tool(self, address: str) -> bool:
        """Whether NVIDIA's tool is there for a device: it knows GPUs of
        NVIDIA that no driver of the host has.
        """
        return (
            bool(self.gpu_admin_tools)
            and self.bus.is_nvidia_gpu(address)
            and self.bus.is_for_guests(address)
        )

    def _has_driver(self, address: str) -> bool:
        """Whether a driver of the host has a device, a GPU of NVIDIA."""
        return self.bus.is_nvidia_gpu(address) and not self.bus.is_for_guests(
            address
        )

    def _clear_memory(self, address: str) -> str | None:
        """Overwrite a GPU's memory, after a reset of its bus.

        Options: README.md of NVIDIA/gpu-admin-tools.
        """
        tool = self.gpu_admin_tools
        problem, said = self._run_tool(
            tool, f"--gpu-bdf={address}", "--reset-with-sbr", "--clear-memory"
        )
        if problem is None and (found := _TOOL_ERROR.search(said)):
            return f"{tool}: {found[1]}"
        return problem

    def _reset(self, address: str, held: Collection[str]) -> str | None:
        smi = shutil.which("nvidia-smi")
        if smi and self._has_driver(address):
            # A reset behind the back of its driver would leave it broken.
            return self._run_tool(smi, "--gpu-reset", f"--id={address}")[0]
        return self.bus.reset(address, held)

    def _settle(self, address: str) -> bus_lib.Health:
        """Wait until a device answers, and read its health."""
        until = time.monotonic() + self.settle_seconds
        while self.bus.find_dead([address]) and time.monotonic() < until:
            time.sleep(min(0.5, self.settle_seconds / 4))
        return self.bus.read_health(address)

    def _ask_driver(self, address: str) -> Iterator[str | None]:
        smi = shutil.which("nvidia-smi")
        if smi is None:
            return
        for option, field, what in _QUESTIONS:
            query = (f"{option}={field}", "--format=csv,noheader")
            problem, said = self._run_tool(smi, *query, f"--id={address}")
            if problem is not None and _UNKNOWN_FIELD in said:
                continue
            if problem is None and said.strip().lower() not in _GOOD:
                problem = f"{what}: {field} is {said}"
            yield problem

    def _run_tool(self, *command: str) -> tuple[str | None, str]:
        return hooks.run(command, self.tool_seconds)

    def _run_hooks(self, name: str, record: states.Record) -> str | None:
        return hooks.run_all(
            os.path.join(self.hooks, name),
            {
                "GPU_AGENT_DEVICE": record.address,
                "GPU_AGENT_SERVER": record.owner or "",
            },
            self.hook_seconds,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Recycler:
    """Takes a device from its release to the next offer."""

    placement: providers_lib.Providers
    domains: domains_lib.Domains
    cleaner: Cleaner
    reservations: providers_lib.ReservationWriter
    transitions: ledger_lib.Transitions

    def recycle(
        self, provider: providers_lib.Provider, is_shared: bool
    ) -> None:
        """Clean a device, and offer it again unless something is wrong.

        :param is_shared: whether VFs of it are given away, and not it itself.
        :raises GpuFilterError: Placement or libvirt does not answer.
        """
        address = provider.address
        # From here on nobody can claim it: who has it now, has it.
        self.placement.reserve(provider.uuid)
        consumers = self.placement.read_consumers(provider.uuid)
        holders = self.domains.read_holders()
        if not is_shared and (consumers or address in holders):
            # The next pass writes down who it is.
            return
        record = self.transitions.move_if(
            address, State.RELEASED, Step(Event.CLEAN, "it was used")
        )
        if record is None:
            return
        try:
            result = self.cleaner.clean(record, set(holders), is_shared)
        except Exception as error:
            LOG.exception("Device %s cannot be cleaned", address)
            result = Result(f"it cannot be cleaned: {error!r}")
        with self.transitions.lock:
            # Nobody can quarantine it between the check and the offer.
            self._conclude(provider, result)

    def _conclude(
        self, provider: providers_lib.Provider, result: Result
    ) -> None:
        address = provider.address
        if result.problem is not None:
            failure = Step(Event.QUARANTINE, result.problem)
            self.transitions.move_if(address, State.CLEANING, failure)
            return
        success = Step(
            Event.PASS,
            "it was reset, and all checks have passed",
            baseline=result.baseline,
        )
        passed = self.transitions.move_if(address, State.CLEANING, success)
        if passed and self.reservations.offer(provider):
            reason = (
                "reset and offered again, its memory was not cleared"
                if result.keeps_memory
                else "clean, and offered again"
            )
            self.transitions.move(passed, Step(Event.GIVE_BACK, reason))


def has_hooks(directory: str) -> bool:
    """Tell whether the operator has hooks in ``[gpu_agent]hooks``."""
    try:
        return bool(hook_programs.list_all(directory))
    except OSError:
        # It quarantines each device that is to be cleaned.
        return True
