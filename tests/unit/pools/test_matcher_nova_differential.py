# SPDX-License-Identifier: Apache-2.0

"""The matcher ``nova`` against what it must agree with: Nova itself."""

import collections
import copy
import logging
import os

import hypothesis
from nova import objects
import pytest

from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import request
from nova_gpu_filter.pools.matchers import nova
from nova_gpu_filter.scheduler import host_pools
from tests.unit.pools import pci_cases

objects.register_all()

CASES = int(os.environ.get("HYPOTHESIS_CASES", "3000"))
"""Generated cases a run: set more for a long search by hand."""

# Request ids are short here, so that failures can be read.
pytestmark = pytest.mark.filterwarnings("ignore:.*UUID:FutureWarning")


def nova_accepts(case, pci_stats, pci_requests):
    """Indexes of the candidates that Nova's own code accepts."""
    return [
        index
        for index, mapping in enumerate(case.mappings)
        if pci_stats.support_requests(
            pci_requests, mapping, case.instance_cells()
        )
    ]


def assert_matcher_agrees(case):
    """Ask both, and check that asking us has changed nothing."""
    pci_stats = case.pci_stats()
    pci_requests = case.pci_requests()
    expected = nova_accepts(case, pci_stats, pci_requests)
    asked_about = copy.deepcopy(case)
    pools_before = copy.deepcopy(pci_stats.pools)
    requests_before = [r.obj_to_primitive() for r in pci_requests]

    match = nova.NovaPoolMatcher().match(
        host_pools.from_pci_stats(pci_stats, with_sockets=True),
        request.DeviceRequests.from_nova(pci_requests, case.instance_cells()),
        case.mappings,
    )

    assert list(match.accepted) == expected
    assert (match.refusal is None) == bool(expected)
    assert pci_stats.pools == pools_before
    assert [r.obj_to_primitive() for r in pci_requests] == requests_before
    assert case == asked_about
    if match.refusal is not None:
        assert match.refusal.cause.value in refusal.describe(match.refusal)
    return match


def test_accepts_exactly_the_candidates_that_nova_accepts(caplog):
    # Nova warns of every split provider; a failure report would show them all.
    caplog.set_level(logging.ERROR, logger="nova.pci.stats")
    seen = collections.Counter()

    @hypothesis.settings(
        max_examples=CASES,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(pci_cases.cases())
    def compare(case):
        match = assert_matcher_agrees(case)
        seen["cases"] += 1
        seen["candidates"] += len(case.mappings)
        seen["accepted"] += len(match.accepted)
        seen["hosts refused"] += match.refusal is not None
        for turn, pci_request in enumerate(case.requests):
            kind = "alias" if pci_request["alias_name"] else "port"
            seen[kind, turn, match.refusal is None] += 1

    compare()

    # Both answers are common, or the comparison would be worth little.
    assert seen["cases"] >= CASES
    assert 0.3 < seen["accepted"] / seen["candidates"] < 0.7
    for kind in ("alias", "port"):
        for turn in (0, 1, 2):
            assert seen[kind, turn, True] > 0, (kind, turn)
            assert seen[kind, turn, False] > 0, (kind, turn)
