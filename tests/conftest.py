# SPDX-License-Identifier: Apache-2.0

"""Have the garbage collector leave alone what lives as long as the process.

Nova, its libraries and the tests are 300,000 objects and more, which Python
walks through again and again, for a seventh of the time of all tests.
"""

import gc

# Collections of young objects are rarer than by default (700), the others are
# as many for each of these. It is set here for the imports of what follows.
gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish(session):
    """Leave out of all collections what was imported and collected."""
    gc.freeze()
