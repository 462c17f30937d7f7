# SPDX-License-Identifier: Apache-2.0

"""A Placement for the tests of a module; see the conftest one level up."""

import pytest


@pytest.fixture(scope="module")
def placement():
    """Run a Placement with default options."""
    from tests.functional.agent import remembering

    with remembering.Placement() as running:
        yield running
