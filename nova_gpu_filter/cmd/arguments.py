# SPDX-License-Identifier: Apache-2.0

"""How our commands that are no cliff applications read their arguments."""

import argparse
from collections.abc import Callable
import math
import os
import sys
from typing import NoReturn

from nova_gpu_filter import printable

EXIT_BAD_INPUT = 3
"""Wrong usage, or input that cannot be used."""

_SHOWN = 40
"""Characters of a value that is none."""
_EXIT_INTERRUPTED = 130
_EXIT_BROKEN_PIPE = 141
"""As the shell has them: 128 and SIGINT, 128 and SIGPIPE."""


def run_to_exit_code(command: Callable[[], int]) -> int:
    """Run a command that people may interrupt, or pipe into ``head``.

    :returns: its exit code.
    """
    try:
        return command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Or Python would complain when it flushes it at exit.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE


def make_whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Make a ``type`` of argparse: a whole number within bounds."""
    bounds = (
        f"of {least} or more"
        if math.isinf(most)
        else f"from {least} to {most}"
    )

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{text[:_SHOWN]!r} is no whole number {bounds}"
            )
        return number

    return read


def read_seconds(text: str) -> float:
    """Read a time: a ``type`` of argparse.

    :raises argparse.ArgumentTypeError: it is none, or for ever.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # What is no number is not between any.
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text[:_SHOWN]!r} is no number of seconds"
        )
    return number


class Parser(argparse.ArgumentParser):
    """Prints errors in one line and exits with 3."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        text = printable.join_lines(message)
        self.exit(
            EXIT_BAD_INPUT,
            f"{self.prog}: {text}; see '{self.prog} --help'\n",
        )
