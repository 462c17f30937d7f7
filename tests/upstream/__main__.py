# SPDX-License-Identifier: Apache-2.0

"""Run Nova's suites: ``python -m tests.upstream -n 2``.

Other arguments go to pytest, for example ``-k`` with a part of a name.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile

# One process each: Nova's unit and functional tests prepare the same modules
# in different ways.
SUITES = (
    ("nova.tests.unit.scheduler.filters.test_pci_passthrough_filters",),
    (
        "nova.tests.functional.libvirt.test_pci_sriov_servers",
        "nova.tests.functional.libvirt.test_pci_in_placement",
    ),
)

_NO_TESTS = 5  # pytest.ExitCode.NO_TESTS_COLLECTED


def main() -> int:
    """Run both suites; return 0 if both passed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.upstream", description=__doc__
    )
    parser.add_argument(
        "-n",
        dest="parts",
        type=int,
        default=2,
        help="processes that share the functional tests",
    )
    arguments, for_pytest = parser.parse_known_args()
    unit, functional = SUITES
    return max(
        _run(unit, 1, for_pytest),
        _run(functional, arguments.parts, for_pytest),
    )


def _run(modules: tuple[str, ...], parts: int, for_pytest: list[str]) -> int:
    """Run a suite in several processes; the first one prints as it goes."""
    print(f"Running {' and '.join(modules)}", flush=True)
    with contextlib.ExitStack() as stack:
        outputs = [
            stack.enter_context(tempfile.TemporaryFile())
            for _ in range(1, parts)
        ]
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-W", "ignore", "-m", "pytest"),
                    *("-W", "ignore", "-p", "tests.upstream.plugin"),
                    f"--part={part}/{parts}",
                    *for_pytest,
                    *("--pyargs", *modules),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for part, output in enumerate([None, *outputs], start=1)
        ]
        codes = [process.wait() for process in processes]
        for output in outputs:
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
    if for_pytest and _NO_TESTS in codes:
        # What "-k" chose may stand in another suite or part.
        codes = [0 if code == _NO_TESTS else code for code in codes]
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
