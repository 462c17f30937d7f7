# SPDX-License-Identifier: Apache-2.0

"""Writes of allocations that lose their races, through all of Placement."""

import logging

from placement import exception
from placement.objects import resource_provider
import pytest

from tests.functional.placement import service

DEVICE = "CUSTOM_DEVICE"
CANDIDATE = {
    "allocations": {service.provider_uuid("host"): {"resources": {DEVICE: 1}}},
    "mappings": {"": [service.provider_uuid("host")]},
}


@pytest.fixture
def lose(placement, monkeypatch):
    """Give a function that has the next writes lose; count all of them."""
    placement.replace_providers(
        [service.Provider("host", inventories={DEVICE: service.Inventory(1)})]
    )
    increment = resource_provider.ResourceProvider.increment_generation
    tried = []

    def arrange(times):
        def maybe_lose(provider):
            tried.append(provider)
            if len(tried) <= times:
                raise exception.ResourceProviderConcurrentUpdateDetected()
            increment(provider)

        monkeypatch.setattr(
            resource_provider.ResourceProvider,
            "increment_generation",
            maybe_lose,
        )
        return tried

    return arrange


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_write_that_lost_is_made_in_the_end_and_once(placement, lose, lost):
    tried = lose(lost)
    consumer = placement.allocate(CANDIDATE, placement.ours)
    assert placement.allocations(consumer) == CANDIDATE["allocations"]
    assert len(tried) == lost + 1
    with pytest.raises(AssertionError, match="Unable to allocate inventory"):
        placement.allocate(CANDIDATE, placement.ours)


def test_a_write_that_always_loses_leaves_nothing(placement, lose, caplog):
    placement.set_option("allocation_conflict_retry_count", 2, "placement")
    tried = lose(99)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(AssertionError, match=r"placement\.concurrent_update"),
    ):
        placement.allocate(CANDIDATE, placement.ours)
    assert len(tried) == 2
    assert "other requests were faster 2 times" in caplog.text
    placement.set_option("allocation_conflict_retry_count", 10, "placement")
    response = placement.stock(
        f"/resource_providers/{service.provider_uuid('host')}/usages"
    )
    assert response.json["usages"] == {DEVICE: 0}
