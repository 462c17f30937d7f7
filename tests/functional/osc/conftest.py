# SPDX-License-Identifier: Apache-2.0

"""A small cloud in a real Placement, and what commands should say of it.

Nothing of nova or placement is imported at module level, for the reason that
the conftest one level up gives.
"""

import os
import pathlib

import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def small_cloud():
    """Return a shell that runs commands on a small cloud."""
    from tests.functional.osc import worlds
    from tests.functional.placement import service

    with service.Placement() as placement:
        yield worlds.build(placement)


@pytest.fixture
def golden():
    """Return a function that compares a text with a file.

    With UPDATE_GOLDEN=1 in the environment the file is written instead, to be
    read before it is committed.
    """

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text()

    return compare
