# SPDX-License-Identifier: Apache-2.0

"""How our commands that are no cliff applications read their arguments."""

import argparse
from typing import NoReturn

EXIT_BAD_INPUT = 3
"""As with nova-gpu-host: wrong usage, or input that cannot be used."""


class Parser(argparse.ArgumentParser):
    """Prints errors in one line and exits with 3."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.exit(
            EXIT_BAD_INPUT,
            f"{self.prog}: {message}; see '{self.prog} --help'\n",
        )
