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
        if pci_stats.support_requests(pci_requests, mapping)
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
        host_pools.read_pci_stats(pci_stats),
        request.DeviceRequests(
            tuple(map(request.DeviceRequest.from_nova, pci_requests))
        ),
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


def gpu(**fields):
    """A pool of one GPU."""
    usual = {"vendor_id": "10de", "product_id": "2330", "numa_node": None}
    return usual | {"count": 1, "dev_type": "type-PCI"} | fields


def asking(request_id, count=1, **fields):
    """A request for any GPUs."""
    usual = {"request_id": request_id, "alias_name": "a1", "count": count}
    return usual | {"spec": [{"vendor_id": "10de"}]} | fields


@pytest.mark.parametrize(
    ("case", "accepted"),
    [
        pytest.param(
            pci_cases.Case(
                pools=[gpu(rp_uuid="rp1"), gpu(rp_uuid="rp1")],
                requests=[asking("r1", alias_name=None), asking("r2")],
                mappings=[{"r2-0": ["rp1"]}],
            ),
            True,
            id="a provider is split until one of its pools is used up",
        ),
        pytest.param(
            pci_cases.Case(
                pools=[gpu(rp_uuid="rp1")],
                requests=[asking("r1", count=0)],
                mappings=[{"r1-0": ["rp9"]}],
            ),
            False,
            id="no device needs a pool, too",
        ),
        pytest.param(
            pci_cases.Case(
                pools=[
                    gpu(rp_uuid=None),
                    gpu(rp_uuid=None),
                    gpu(rp_uuid="rp1"),
                ],
                requests=[asking("r1")],
                mappings=[{"r1-0": ["rp1"]}],
            ),
            False,
            id="no provider can be split, too",
        ),
    ],
)
def test_agrees_where_chance_seldom_leads(case, accepted):
    assert bool(assert_matcher_agrees(case).accepted) is accepted


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
