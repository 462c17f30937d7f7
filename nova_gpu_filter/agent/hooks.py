# SPDX-License-Identifier: Apache-2.0

"""Runs programs with a time limit: the operator's hooks and vendors' tools."""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import select
import signal
import stat
import subprocess
import time

from nova_gpu_filter.host import hook_programs

_SAID = 400
"""Characters of what a program said last that are kept."""
_OUTPUT = 1 << 20
"""Bytes of its output that are kept, the last ones."""
_POLL_SECONDS = 0.05
"""Between two checks whether it has ended."""
_DYING = 10.0
"""Seconds that it may take to go when it is killed: one that waits for a
device in the kernel goes when the device answers, and perhaps never."""


def run(
    command: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[str | None, str]:
    """Run a program, and end it and its children after its time.

    :param environment: added to our own.
    :returns: (what is wrong; None if it ended with 0, what it printed).
    """
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror or error}", ""
    try:
        output = _read(process, time.monotonic() + seconds)
    except TimeoutError:
        problem = f"{command[0]}: not done after {seconds:g} seconds"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(_DYING)
        except subprocess.TimeoutExpired:
            problem += f", and process {process.pid} cannot be killed"
        return problem, ""
    text = output.decode("utf-8", "replace").strip()
    if process.returncode:
        lines = text.splitlines()
        said = f": {lines[-1][:_SAID]}" if lines else ""
        return f"{command[0]}: ended with {process.returncode}{said}", text
    return None, text


def _read(process: "subprocess.Popen[bytes]", until: float) -> bytes:
    """Read what a program prints until it ends.

    What it has started may go on, and keep its output open: that is not
    waited for.

    :param until: of time.monotonic().
    :returns: the end of its output.
    :raises TimeoutError: it has not ended.
    """
    output = b""
    assert process.stdout is not None
    with process.stdout as pipe:
        polled = select.poll()
        polled.register(pipe, select.POLLIN)
        is_open = True
        while True:
            has_ended = process.poll() is not None
            is_late = time.monotonic() >= until
            if is_late and not has_ended:
                raise TimeoutError
            # It can have printed something after the last look.
            wait = 0.0 if has_ended else _POLL_SECONDS
            if not is_open:
                time.sleep(wait)
            elif polled.poll(wait * 1000):
                data = os.read(pipe.fileno(), 1 << 16)
                is_open = bool(data)
                output = (output + data)[-_OUTPUT:]
                if not is_late:
                    continue
            if has_ended:
                return output


def run_all(
    directory: str, environment: Mapping[str, str], seconds: float
) -> str | None:
    """Run the executable files of a directory in the order of their names.

    :param seconds: for each of them.
    :returns: what is wrong with the first that failed, or that anybody else
        than its owner could have written; None if all is well.
    """
    try:
        paths = hook_programs.list_programs(directory)
    except OSError as error:
        return f"{directory}: {error.strerror or error}"
    for path in paths:
        problem = _explain_unsafe(path) or run([path], seconds, environment)[0]
        if problem:
            return problem
    return None


def _explain_unsafe(path: str) -> str | None:
    """Tell why root must not run a file."""
    for place in (os.path.dirname(path), path):
        found = os.stat(place)
        if found.st_uid not in (0, os.geteuid()):
            return f"{place}: it is not root's, and is not run"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return (
                f"{place}: others than root can write to it, and it is not"
                " run; chmod go-w it"
            )
    return None
