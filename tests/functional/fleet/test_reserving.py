# SPDX-License-Identifier: Apache-2.0

"""Devices that a real Placement offers no more, and offers again."""

import pytest

from nova_gpu_filter.fleet import api as services
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import reserving
from nova_gpu_filter.fleet.reserving import Mark
from tests.functional.fleet import adapters
from tests.functional.placement import service

GPU = "CUSTOM_H100"
NAME = "gpu-1_0000:85:00.0"
UUID = service.provider_uuid(NAME)
PF = service.provider_uuid("gpu-1_0000:86:00.0")


@pytest.fixture
def adapter(placement):
    placement.replace_providers(
        [
            service.Provider("gpu-1", inventories={"VCPU": _inventory(8)}),
            service.Provider(NAME, "gpu-1", {GPU: _inventory(1)}),
            service.Provider(
                "gpu-1_0000:86:00.0", "gpu-1", {"CUSTOM_VF": _inventory(16)}
            ),
        ]
    )
    return adapters.PlacementAdapter(placement)


def _inventory(total):
    return service.Inventory(total)


@pytest.fixture
def get(adapter):
    return services.make_getter(adapter, "Placement", "1.31")


@pytest.fixture
def send(adapter):
    return services.make_sender(adapter, "Placement", "1.31")


def _candidates(get, resource_class=GPU):
    path = f"/allocation_candidates?resources={resource_class}:1"
    return len(get(path)["allocation_requests"])


def test_what_is_reserved_is_offered_to_nobody_until_it_is_offered(get, send):
    assert _candidates(get) == 1
    assert reserving.reserve(get, send, UUID)
    assert _candidates(get) == 0
    assert not reserving.reserve(get, send, UUID)
    assert reserving.offer(get, send, UUID)
    assert _candidates(get) == 1


def test_other_fields_of_an_inventory_stay(placement, get, send):
    placement.replace_providers(
        [
            service.Provider("gpu-1"),
            service.Provider(
                NAME,
                "gpu-1",
                {GPU: service.Inventory(4, max_unit=2, step_size=2)},
            ),
        ]
    )
    before = reserving.read(get, UUID).fields
    reserving.reserve(get, send, UUID)
    assert reserving.read(get, UUID).fields == {**before, "reserved": 4}


def test_all_vfs_of_a_pf_are_reserved_and_those_in_use_stay(
    placement, get, send
):
    path = "/allocation_candidates?resources=CUSTOM_VF:1"
    [candidate] = placement.stock(path).json["allocation_requests"]
    consumer = placement.allocate(candidate)
    reserving.reserve(get, send, PF)
    assert _candidates(get, "CUSTOM_VF") == 0
    assert reserving.read(get, PF).fields["reserved"] == 16
    assert placement.allocations(consumer)


def test_a_device_in_use_is_reserved_and_its_server_can_move_away(
    placement, get, send
):
    path = f"/allocation_candidates?resources={GPU}:1"
    [candidate] = placement.stock(path).json["allocation_requests"]
    consumer = placement.allocate(candidate)
    reserving.quarantine(get, send, UUID)
    assert list(placement.allocations(consumer)) == [UUID]
    placement.free(consumer)
    assert _candidates(get) == 0


def test_quarantine_and_release_without_an_agent_can_be_said_twice(get, send):
    assert reserving.quarantine(get, send, UUID)
    assert not reserving.quarantine(get, send, UUID)
    assert reserving.read_marked(get, Mark.QUARANTINED) == {UUID}
    assert _candidates(get) == 0
    for _ in range(2):
        assert not reserving.release(get, send, UUID)
        assert reserving.read_marked(get, Mark.QUARANTINED) == set()
        assert _candidates(get) == 1


def test_release_where_an_agent_looks_after_it_leaves_it_reserved(get, send):
    reserving.change_aggregates(get, send, UUID, add=frozenset({Mark.MANAGED}))
    reserving.quarantine(get, send, UUID)
    assert reserving.release(get, send, UUID)
    assert _candidates(get) == 0
    found = reserving.read(get, UUID)
    assert found.has(Mark.RELEASE_ASKED)
    assert not found.has(Mark.QUARANTINED)
    # A second thought.
    reserving.quarantine(get, send, UUID)
    assert not reserving.read(get, UUID).has(Mark.RELEASE_ASKED)


def test_what_is_quarantined_is_not_offered(get, send):
    reserving.quarantine(get, send, UUID)
    assert not reserving.offer(get, send, UUID)
    assert _candidates(get) == 0


def test_marks_leave_other_aggregates_alone(get, send):
    other = service.provider_uuid("an aggregate of the operator")
    generation = reserving.read(get, UUID).generation
    send(
        f"/resource_providers/{UUID}/aggregates",
        {
            "aggregates": [other],
            "resource_provider_generation": generation,
        },
    )
    reserving.quarantine(get, send, UUID)
    reserving.release(get, send, UUID)
    assert reserving.read(get, UUID).aggregates == {other}


class _Hasty:
    """Lets others write to the provider between our reading and writing."""

    def __init__(self, send, get, times, other=None):
        self._send, self._get, self._left = send, get, times
        self._other = other

    def __call__(self, path, body):
        if self._left:
            self._left -= 1
            if self._other:
                self._other()
            else:
                found = reserving.read(self._get, UUID)
                self._send(
                    f"/resource_providers/{UUID}/aggregates",
                    {
                        "aggregates": sorted(found.aggregates),
                        "resource_provider_generation": found.generation,
                    },
                )
        return self._send(path, body)


def test_a_write_that_another_was_faster_than_is_made_again(get, send):
    hasty = _Hasty(send, get, times=reserving.TRIES - 1)
    assert reserving.reserve(get, hasty, UUID)
    assert _candidates(get) == 0


def test_a_write_that_loses_every_time_is_one_clear_line(get, send):
    hasty = _Hasty(send, get, times=reserving.TRIES)
    with pytest.raises(errors.Conflict) as raised:
        reserving.reserve(get, hasty, UUID)
    assert f"PUT /resource_providers/{UUID}/inventories/{GPU}" in str(
        raised.value
    )
    assert "HTTP 409" in str(raised.value)


def test_a_quarantine_in_the_middle_of_an_offer_wins(get, send):
    reserving.reserve(get, send, UUID)
    hasty = _Hasty(send, get, 1, lambda: reserving.quarantine(get, send, UUID))
    assert not reserving.offer(get, hasty, UUID)
    assert _candidates(get) == 0


def test_a_user_without_rights_is_told_what_was_refused(adapter, get, send):
    reserving.reserve(get, send, UUID)
    adapter.token = "user"  # noqa: S105
    with pytest.raises(errors.NotAllowed):
        reserving.offer(get, send, UUID)


def test_a_provider_without_inventory_is_left_alone(placement, get, send):
    placement.replace_providers(
        [service.Provider("gpu-1"), service.Provider(NAME, "gpu-1")]
    )
    assert not reserving.reserve(get, send, UUID)
    assert reserving.quarantine(get, send, UUID)
