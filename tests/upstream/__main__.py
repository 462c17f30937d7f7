# SPDX-License-Identifier: Apache-2.0

"""Run the suites of Nova and Placement: ``python -m tests.upstream -n 2``.

Other arguments go to pytest, for example ``-k`` with a part of a name: then
Nova's suites are run, and ``python -m tests.upstream.placement`` takes them
for Placement's.
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
    """Run all suites; return 0 if they passed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.upstream", description=__doc__
    )
    parser.add_argument(
        "-n",
        dest="processors",
        type=int,
        default=2,
        help="processors that share Nova's functional tests",
    )
    arguments, for_pytest = parser.parse_known_args()
    unit, functional = SUITES
    # They look twice a second how far a server is, and wait half of the time.
    parts = arguments.processors * 3 // 2
    last = [
        _pytest(functional, f"{part}/{parts}", for_pytest)
        for part in range(1, parts + 1)
    ]
    if not for_pytest:
        last.append(["-m", "tests.upstream.placement"])
    codes = _run([_pytest(unit, "1/1", for_pytest)]) + _run(last)
    if for_pytest and _NO_TESTS in codes:
        # What "-k" chose may stand in another suite or part.
        codes = [0 if code == _NO_TESTS else code for code in codes]
    return max(map(abs, codes))


def _pytest(
    modules: tuple[str, ...], part: str, for_pytest: list[str]
) -> list[str]:
    return [
        *("-W", "ignore", "-m", "pytest"),
        *("-W", "ignore", "-p", "tests.upstream.plugin"),
        f"--part={part}",
        *for_pytest,
        *("--pyargs", *modules),
    ]


def _run(commands: list[list[str]]) -> list[int]:
    """Run Python side by side; the first one prints as it goes.

    :returns: the exit codes.
    """
    with contextlib.ExitStack() as stack:
        outputs = [
            stack.enter_context(tempfile.TemporaryFile()) for _ in commands[1:]
        ]
        processes = [
            subprocess.Popen(
                [sys.executable, *command],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for command, output in zip(commands, [None, *outputs], strict=True)
        ]
        codes = [process.wait() for process in processes]
        for output in outputs:
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
    return codes


if __name__ == "__main__":
    sys.exit(main())
