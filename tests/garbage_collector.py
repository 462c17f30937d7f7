# SPDX-License-Identifier: Apache-2.0

"""Has the garbage collector leave alone what lives as long as the process.

Nova, its libraries and the tests are 300,000 objects and more, which Python
walks through again and again, for a seventh of the time of all tests.
"""

import gc


def collect_rarely() -> None:
    """Do so for young objects, 700 by default; others as often for these."""
    gc.set_threshold(20_000, 20, 20)


def leave_out_what_is_there() -> None:
    """Leave out of all collections what was imported and collected."""
    gc.freeze()
