# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.hardware``: run the tests, or say why not."""

import os
import sys

import pytest

from tests.hardware import parts
from tests.hardware import programs


def main() -> int:
    """Get the parts and run the tests; what cannot be had is no failure."""
    try:
        parts.get()
    except programs.NotHere as reason:
        print(f"make test-hardware: SKIPPED, {reason}.")
        return 0
    os.environ[parts.SWITCH] = "1"
    return pytest.main(
        [
            *("-q", "-n", os.environ.get("WORKERS", "2")),
            # Else those with one test come last, which take longest.
            "--no-loadscope-reorder",
            *(str(parts.SOURCES), *sys.argv[1:]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
