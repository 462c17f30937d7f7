# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.hardware``: run the tests, or say why not."""

import os
import sys

import pytest

from tests.hardware import conftest
from tests.hardware import parts


def main() -> int:
    """Get the parts and run the tests; what cannot be had is no failure."""
    try:
        parts.get()
    except parts.NotHere as reason:
        print(f"make test-hardware: SKIPPED, {reason}.")
        return 0
    os.environ[conftest.SWITCH] = "1"
    return pytest.main(
        # One process, since each machine takes two processors.
        ["-q", "-p", "no:xdist", str(parts.SOURCES), *sys.argv[1:]]
    )


if __name__ == "__main__":
    sys.exit(main())
