# SPDX-License-Identifier: Apache-2.0

"""Has pytest keep the temporary files of tests in memory."""

import os

_MEMORY = "/dev/shm"  # noqa: S108
_BYTES = 1 << 30
"""More than the tests that run at one time have."""
_PLACE = "PYTEST_DEBUG_TEMPROOT"
"""Where pytest makes them, if it is set:
https://docs.pytest.org/en/stable/how-to/tmp_path.html"""


def keep_in_memory() -> None:
    """Do so where there is room, and nobody has said where they shall be.

    Tests write a sysfs for each of thousands of hosts, 800,000 files together,
    for which a disk may take longer than the tests do.
    """
    if _PLACE in os.environ or "TMPDIR" in os.environ:
        return
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return
    # Some tests run scripts from there.
    may_run = not found.f_flag & os.ST_NOEXEC
    has_room = found.f_bavail * found.f_frsize >= _BYTES
    if may_run and has_room and os.access(_MEMORY, os.W_OK):
        os.environ[_PLACE] = _MEMORY
