# SPDX-License-Identifier: Apache-2.0

"""Processes that outlive the command that starts them, told by pid."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import pathlib
import signal
import subprocess
import time

from cloud import errors
from cloud import state as states

_POLL_SECONDS = 0.1
_LOG_LINES = 25
"""How much of a log a failure shows."""


class Processes:
    """The processes of a cloud; each leads a process group of its own."""

    def __init__(self, state: states.State) -> None:
        """Nothing is started yet; records are those of ``state``."""
        self._state = state

    @property
    def names(self) -> list[str]:
        """All that were started and not ended since, in that order."""
        return list(self._state.data.get("processes", {}))

    def log(self, name: str) -> pathlib.Path:
        """Where the process writes; later starts append."""
        return self._state.logs / f"{name}.log"

    def pid(self, name: str) -> int:
        """Number of the process, running or not."""
        return self._state.data["processes"][name]["pid"]

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str]
    ) -> None:
        """Start a process; its record is enough to start it again.

        :param env: the whole environment but ``PATH`` and ``HOME``.
        """
        record = {"argv": list(argv), "env": dict(env)}
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                record["argv"],
                env=self.environment(env),
                cwd=self._state.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Keys of Keystone, the cookie of RabbitMQ.
                umask=0o077,
            )
        record["pid"] = process.pid
        record["started"] = _start_time(process.pid)
        with self._state.lock:
            processes = self._state.data["processes"]
            processes.pop(name, None)
            processes[name] = record
            self._state.save()

    def start_again(self, name: str) -> None:
        """Start a process that has ended, as it was started before."""
        record = self._state.data["processes"][name]
        self.start(name, record["argv"], record["env"])

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Complete an environment with what every process gets."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._state.data_of("home")),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
            **env,
        }

    def is_alive(self, name: str) -> bool:
        """Whether the process runs; another one with its pid does not count.

        A zombie is dead: its parent may be the command that started it, which
        has other things to do.
        """
        record = self._state.data["processes"].get(name)
        return (
            record is not None
            and _start_time(record["pid"]) == record["started"]
        )

    def stop(self, *names: str, patience_seconds: float = 30.0) -> None:
        """End processes side by side, in this order, and forget them.

        With SIGTERM, or with SIGKILL those that do not end for it. What is
        left of their groups is killed.
        """
        self.end(*names, patience_seconds=patience_seconds)
        with self._state.lock:
            for name in names:
                self._state.data["processes"].pop(name, None)
            self._state.save()

    def kill(self, name: str) -> None:
        """End a process and its group with SIGKILL; the record stays."""
        self.end(name, number=signal.SIGKILL)

    def end(
        self,
        *names: str,
        number: signal.Signals = signal.SIGTERM,
        patience_seconds: float = 30.0,
    ) -> None:
        """Send a signal to processes and wait until they are gone."""
        alive = [name for name in names if self.is_alive(name)]
        for name in alive:
            if number is signal.SIGKILL:
                _signal_group(self.pid(name), number)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid(name), number)
        deadline = time.monotonic() + patience_seconds
        for name in alive:
            while self.is_alive(name) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            # Workers that their parent has left behind, too.
            _signal_group(self.pid(name), signal.SIGKILL)
            while self.is_alive(name):
                time.sleep(_POLL_SECONDS)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid(name), os.WNOHANG)

    def wait(
        self,
        name: str,
        is_ready: Callable[[], bool],
        patience_seconds: float = 180.0,
    ) -> None:
        """Wait until a service answers as it does when it is ready.

        :param is_ready: asks it; an ``OSError`` counts as no.
        :raises CloudError: it ended, or takes too long; with its last lines.
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            with contextlib.suppress(OSError):
                if is_ready():
                    return
            if not self.is_alive(name):
                raise self.failure(name, "ended while it was starting")
            if time.monotonic() > deadline:
                raise self.failure(
                    name, f"is not ready after {patience_seconds:.0f} s"
                )
            time.sleep(_POLL_SECONDS)

    def failure(self, name: str, problem: str) -> errors.CloudError:
        """Say what is wrong with a process, with the end of its log."""
        return errors.CloudError(
            f"{name} {problem}. The end of {self.log(name)}:\n"
            + tail(self.log(name))
        )


def tail(path: pathlib.Path, lines: int = _LOG_LINES) -> str:
    """Return the last lines of a file, indented."""
    with contextlib.suppress(FileNotFoundError):
        text = path.read_text(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
    return "  (no such file)"


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks after boot.

    :returns: None if there is none, or a zombie. See proc(5), /proc/pid/stat:
        the command name, in parentheses, may hold anything; fields count on
        after its end.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
