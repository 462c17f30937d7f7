# SPDX-License-Identifier: Apache-2.0

"""Hostile writes of allocations, against stock Placement."""

import json

from demo import threads  # noqa: F401

# isort: split

from hypothesis import given
from hypothesis import strategies as st
import pytest

from tests.functional.placement import service
from tests.functional.placement import test_allocation_writes_differential as d
from tests.fuzz import hostile

reset = d.reset


@pytest.fixture(scope="module")
def placement():
    """Run a Placement with default options, stock and wrapped."""
    with service.Placement() as running:
        yield running


@st.composite
def _bodies(draw, good):
    """Draw a body in which a part has another value or name, or is gone."""
    found = json.loads(good)
    where = found
    for _ in range(draw(st.integers(0, 5))):
        if not isinstance(where, dict) or not where:
            break
        name = draw(st.sampled_from(sorted(where)))
        kind = draw(st.sampled_from(("into", "into", "set", "name", "drop")))
        if kind == "into":
            where = where[name]
            continue
        value = where.pop(name)
        if kind == "set":
            where[name] = draw(hostile.values)
        elif kind == "name":
            where[draw(hostile.texts)] = value
        break
    return json.dumps(found).encode()


@st.composite
def _writes(draw):
    environ, body = d.draw(draw(st.integers(0, (1 << 64) - 1)))
    if draw(st.booleans()):
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            body = draw(st.binary(max_size=50))
        else:
            body = draw(_bodies(body))
        if "CONTENT_LENGTH" in environ and draw(st.integers(0, 9)):
            environ["CONTENT_LENGTH"] = str(len(body))
    return environ, body


@given(write=_writes())
def test_a_write_has_the_answer_of_placement(placement, reset, write):
    environ, body = write
    reset()
    stock = d.send(placement.applications["stock"], environ, body)
    reset()
    ours = d.send(placement.applications["ours"], environ, body)
    assert ours == stock, (environ, body)
