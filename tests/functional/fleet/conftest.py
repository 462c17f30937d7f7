# SPDX-License-Identifier: Apache-2.0

"""A Placement for the tests of a module.

Nothing of nova or placement is imported at module level, for the reason that
the conftest one level up gives.
"""

import pytest


@pytest.fixture(scope="module")
def placement():
    """Run a Placement with default options."""
    from tests.functional.placement import service

    with service.Placement() as running:
        yield running
