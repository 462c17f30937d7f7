# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.node``: run the tests, or say why not."""

import pathlib
import sys

import pytest

from tests.hardware import parts
from tests.hardware import programs


def main() -> int:
    """Get the parts and run the tests; what cannot be had is no failure."""
    try:
        parts.get()
    except programs.NotHere as reason:
        print(f"make test-node: SKIPPED, {reason}.")
        return 0
    return pytest.main(
        [
            *("-q", "-W", "ignore", "-p", "no:cacheprovider"),
            # A host that is emulated takes its time, and waits have limits.
            *("-o", "faulthandler_timeout=0"),
            *(str(pathlib.Path(__file__).parent), *sys.argv[1:]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
