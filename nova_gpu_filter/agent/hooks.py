# SPDX-License-Identifier: Apache-2.0

"""Runs programs with a time limit: the operator's hooks and vendors' tools."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import signal
import stat
import subprocess

_SAID = 400
"""Characters of what a program said last that are kept."""


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
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{command[0]}: not done after {seconds:g} seconds", ""
    text = output.decode("utf-8", "replace").strip()
    if process.returncode:
        lines = text.splitlines()
        said = f": {lines[-1][:_SAID]}" if lines else ""
        return f"{command[0]}: ended with {process.returncode}{said}", text
    return None, text


def run_all(
    directory: str, environment: Mapping[str, str], seconds: float
) -> str | None:
    """Run the executable files of a directory in the order of their names.

    Hidden files, backups (``~``) and files that are not executable are left
    out, as by run-parts(8).

    :param seconds: for each of them.
    :returns: what is wrong with the first that failed, or that anybody else
        than its owner could have written; None if all is well.
    """
    try:
        paths = list(_executables(directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{directory}: {error.strerror or error}"
    for path in paths:
        if problem := _unsafe(path):
            return problem
        problem, _said = run([path], seconds, environment)
        if problem:
            return problem
    return None


def _executables(directory: str) -> Iterator[str]:
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.startswith(".") or name.endswith("~"):
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield path


def _unsafe(path: str) -> str | None:
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
