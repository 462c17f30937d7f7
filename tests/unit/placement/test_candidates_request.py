# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import candidates_request
from tests.unit.placement import builders


def test_effort_ends_and_grows_with_what_placement_told():
    def spend_all(providers):
        effort = candidates_request.Effort(providers)
        return next(n for n in range(10**6) if not effort.spend(100))

    assert spend_all(0) < spend_all(1000) < spend_all(10_000)


@pytest.mark.parametrize(
    ("limit", "most", "found", "expected"),
    [
        (None, None, 5, None),
        (10, None, 5, 10),
        (None, 10, 5, 10),
        # Each tree has a candidate.
        (None, 10, 50, 50),
        (20, 10, 50, 20),
        (5, 10, 50, 5),
    ],
)
def test_as_many_are_wanted_as_client_and_operator_allow(
    limit, most, found, expected
):
    asked = candidates_request.Request(
        builders.question(2, limit=limit), {}, {}, 16, 0, most=most
    )
    assert asked.count_wanted(found) == expected
