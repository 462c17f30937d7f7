# SPDX-License-Identifier: Apache-2.0

"""A Placement for the tests of a module.

Nothing of nova or placement is imported at module level, for the reason that
the conftest one level up gives.
"""

import pytest


@pytest.fixture(scope="module")
def placement():
    """Run a Placement with default options, stock and wrapped."""
    from tests.functional.placement import service

    with service.Placement() as running:
        yield running


@pytest.fixture
def fresh_placement():
    """Return a function that starts a Placement with given options."""
    from tests.functional.placement import service

    started = []

    def start(options, database=None):
        running = service.Placement(options, database)
        running.setUp()
        started.append(running)
        return running

    yield start
    for running in started:
        running.cleanUp()
