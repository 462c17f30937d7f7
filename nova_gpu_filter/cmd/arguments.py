# SPDX-License-Identifier: Apache-2.0

"""How our commands that are no cliff applications read their arguments."""

import argparse
from typing import NoReturn

from nova_gpu_filter import printable

EXIT_BAD_INPUT = 3
"""As with nova-gpu-host: wrong usage, or input that cannot be used."""


class Parser(argparse.ArgumentParser):
    """Prints errors in one line and exits with 3."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        text = printable.one_line(message)
        self.exit(
            EXIT_BAD_INPUT,
            f"{self.prog}: {text}; see '{self.prog} --help'\n",
        )
