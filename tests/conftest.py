# SPDX-License-Identifier: Apache-2.0

"""What all tests have: a garbage collector that takes less of their time."""

import pytest

from tests import garbage_collector

# For the imports of what follows, too.
garbage_collector.collect_rarely()


def pytest_collection_finish(session):
    """Leave out of collections what the tests have imported."""
    garbage_collector.leave_out_what_is_there()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config):
    """Leave out what tests have left: pytest collects five times at the end.

    It looks for exceptions in finalizers, of which it would only warn.
    """
    garbage_collector.leave_out_what_is_there()
