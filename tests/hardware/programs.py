# SPDX-License-Identifier: Apache-2.0

"""Runs programs of this machine, without which there are no tests."""

import pathlib
import subprocess


class NotHere(Exception):
    """This machine cannot run the tests; the message says why."""


def run(*command: object, cwd: pathlib.Path | None = None, **more) -> str:
    """Run a command.

    :raises NotHere: it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, **more
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        # What make says last is only that a compiler said something.
        errors = [one for one in lines if " error: " in one] or lines[-1:]
        raise NotHere(
            f"'{' '.join(words[:4])}' failed: {' '.join(errors[:1])}"
        )
    return done.stdout
