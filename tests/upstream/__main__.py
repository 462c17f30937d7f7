# SPDX-License-Identifier: Apache-2.0

"""Run Nova's suites: ``python -m tests.upstream -n 2``.

Other arguments go to pytest, for example ``-k`` with a part of a name.
"""

import argparse
import subprocess
import sys

UNIT = ("nova.tests.unit.scheduler.filters.test_pci_passthrough_filters",)
FUNCTIONAL = (
    "nova.tests.functional.libvirt.test_pci_sriov_servers",
    "nova.tests.functional.libvirt.test_pci_in_placement",
)


def main() -> int:
    """Run both suites; return 0 if both passed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.upstream", description=__doc__
    )
    parser.add_argument(
        "-n", dest="workers", default="2", help="test processes at a time"
    )
    arguments, for_pytest = parser.parse_known_args()
    # One process each: Nova's unit and functional tests set up the same
    # modules in different ways.
    results = [
        _pytest(UNIT, for_pytest),
        _pytest(FUNCTIONAL, ["-n", arguments.workers, *for_pytest]),
    ]
    return max(results)


def _pytest(modules: tuple[str, ...], arguments: list[str]) -> int:
    command = [
        *(sys.executable, "-W", "ignore", "-m", "pytest"),
        *("-q", "-W", "ignore", "-p", "tests.upstream.plugin"),
        *arguments,
        *("--pyargs", *modules),
    ]
    print("Running", *modules, flush=True)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
