# SPDX-License-Identifier: Apache-2.0

"""Devices of Nova and of Cyborg in one tree: a question that says whose it
wants is composed without those of the other."""

import pytest

from tests.functional.placement import questions
from tests.functional.placement import service

NOVA, CYBORG = "OWNER_NOVA", "OWNER_CYBORG"


@pytest.fixture
def shared(placement):
    """A host with three GPUs of Nova, and two of Cyborg."""

    def gpu(name, *traits):
        return service.Provider(
            name, "a", {questions.GPU: service.Inventory(1)}, traits
        )

    placement.replace_providers(
        [
            service.Provider("a", None, {"VCPU": service.Inventory(8)}),
            *(gpu(f"nova-{number}", NOVA) for number in range(3)),
            *(gpu(f"cyborg-{number}", CYBORG) for number in range(2)),
        ]
    )
    placement.set_option("max_sets_per_tree", 16, "gpu_filter")
    return placement


def _names(prefix, count):
    return {
        service.provider_uuid(f"{prefix}-{number}") for number in range(count)
    }


@pytest.mark.parametrize(
    ("trait", "expected"),
    [
        (NOVA, _names("nova", 3)),
        (f"!{CYBORG}", _names("nova", 3)),
        (f"in:{NOVA},CUSTOM_X", _names("nova", 3)),
        (CYBORG, _names("cyborg", 2)),
    ],
)
def test_a_set_has_devices_of_the_owner_that_is_asked_for(
    shared, trait, expected
):
    """Two of them, in all ways that stock Placement has."""
    shared.create_trait("CUSTOM_X")
    asked = questions.query(2, *(f"required_{i}={trait}" for i in range(2)))
    path = f"/allocation_candidates?{asked}"
    headers = {"microversion": "1.39"} if trait.startswith("in:") else {}
    stock, ours = shared.stock(path, **headers), shared.ours(path, **headers)
    assert ours.is_composed
    composed = questions.device_sets(ours)
    assert set(composed) == set(questions.device_sets(stock))
    assert {uuid for one in composed for uuid in one} == expected


def test_without_an_owner_all_are_composed_as_placement_does(shared):
    path = f"/allocation_candidates?{questions.query(2)}"
    composed = questions.device_sets(shared.ours(path))
    assert set(composed) == set(questions.device_sets(shared.stock(path)))
    assert {uuid for one in composed for uuid in one} == (
        _names("nova", 3) | _names("cyborg", 2)
    )
