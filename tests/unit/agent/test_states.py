# SPDX-License-Identifier: Apache-2.0

"""What leads a device from one state to the next."""

import dataclasses
import itertools

import pytest

from nova_gpu_filter.agent import states
from nova_gpu_filter.agent.states import Event
from nova_gpu_filter.agent.states import Observation
from nova_gpu_filter.agent.states import State

GPU = "0000:85:00.0"
SERVER = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


def record(state, owner=None):
    return states.Record(GPU, state, "a reason", 1.0, "test", owner)


def move(one, event, owner=None):
    return states.move(one, states.Step(event, "why", "me", owner), 2.0)


def test_a_device_goes_round_from_free_to_free():
    one = record(State.FREE)
    seen = [one.state]
    for event in (
        Event.CLAIM,
        Event.START,
        Event.RELEASE,
        Event.CLEAN,
        Event.PASS,
        Event.GIVE_BACK,
    ):
        one = move(one, event)
        seen.append(one.state)
    assert seen == [
        State.FREE,
        State.CLAIMED,
        State.IN_USE,
        State.RELEASED,
        State.CLEANING,
        State.CHECKED,
        State.FREE,
    ]


def test_only_what_was_checked_becomes_free():
    assert {
        (state, event)
        for (state, event), then in states.TRANSITIONS.items()
        if then is State.FREE
    } == {(State.CHECKED, Event.GIVE_BACK)}
    assert {
        (state, event)
        for (state, event), then in states.TRANSITIONS.items()
        if then is State.CHECKED
    } == {(State.CLEANING, Event.PASS)}


def test_only_a_person_ends_quarantine_and_it_is_cleaned_then():
    assert {
        event: then
        for (state, event), then in states.TRANSITIONS.items()
        if state is State.QUARANTINED
    } == {Event.END_QUARANTINE: State.RELEASED}


def test_every_state_can_be_left_and_reached():
    assert {state for state, _ in states.TRANSITIONS} == set(State)
    assert set(states.TRANSITIONS.values()) == set(State)
    assert {event for _, event in states.TRANSITIONS} == set(Event)


def test_an_event_that_cannot_happen_names_device_event_and_state():
    with pytest.raises(states.ImpossibleTransition) as raised:
        move(record(State.FREE), Event.GIVE_BACK)
    assert str(raised.value) == (
        f"device {GPU}: give-back is not possible when free"
    )


def test_a_move_keeps_the_last_owner_and_the_baseline():
    one = dataclasses.replace(record(State.IN_USE, SERVER), baseline="x16")
    assert move(one, Event.RELEASE).owner == SERVER
    assert move(one, Event.RELEASE).baseline == "x16"
    assert move(one, Event.START, owner=OTHER).owner == OTHER


CASES = [
    # state, what is seen, the next event
    (State.FREE, Observation(), None),
    (State.FREE, Observation(is_reserved=True), Event.FIND_USED),
    (
        State.FREE,
        Observation(is_reserved=True, is_one_time_use=False),
        Event.QUARANTINE,
    ),
    (State.FREE, Observation(consumer=SERVER, is_reserved=True), Event.CLAIM),
    (State.FREE, Observation(guest=SERVER, consumer=SERVER), Event.START),
    (State.CLAIMED, Observation(consumer=SERVER, is_reserved=True), None),
    (State.CLAIMED, Observation(consumer=OTHER), Event.CLAIM),
    (State.CLAIMED, Observation(guest=SERVER, consumer=SERVER), Event.START),
    # A reverted migration: allocated on the destination, and never started.
    (State.CLAIMED, Observation(is_reserved=True), Event.RELEASE),
    (State.IN_USE, Observation(guest=SERVER, consumer=SERVER), None),
    # Hard reboot: libvirt forgets the domain for a while.
    (State.IN_USE, Observation(consumer=SERVER), Event.LEAVE),
    # Deleted behind Nova's back in Placement: the guest still runs.
    (State.IN_USE, Observation(guest=SERVER), None),
    (State.IN_USE, Observation(guest=OTHER, consumer=OTHER), Event.START),
    (State.IN_USE, Observation(is_reserved=True), Event.RELEASE),
    (State.RELEASED, Observation(is_reserved=True), None),
    (State.RELEASED, Observation(), None),
    (State.RELEASED, Observation(consumer=OTHER), Event.CLAIM),
    (State.CLEANING, Observation(is_reserved=True), None),
    (State.CLEANING, Observation(guest=OTHER), Event.START),
    (State.CHECKED, Observation(is_reserved=True), None),
    (State.CHECKED, Observation(consumer=OTHER), Event.CLAIM),
    (State.QUARANTINED, Observation(), None),
    (State.QUARANTINED, Observation(guest=SERVER, consumer=SERVER), None),
    (State.QUARANTINED, Observation(is_present=False), None),
]


@pytest.mark.parametrize(("state", "observation", "event"), CASES)
def test_what_has_happened_to_a_device(state, observation, event):
    step = states.find_next_step(record(state, SERVER), observation)
    assert (step and step.event) == event
    if step is not None:
        assert step.reason
        assert step.by


def every_observation():
    for guest, consumer, *flags in itertools.product(
        (None, SERVER, OTHER),
        (None, SERVER, OTHER),
        *[(False, True)] * 4,
    ):
        yield Observation(guest, consumer, *flags)


@pytest.mark.parametrize("state", State)
def test_whatever_is_seen_the_steps_are_possible_and_come_to_an_end(state):
    for observation in every_observation():
        one = record(state, SERVER)
        for _ in range(4):
            step = states.find_next_step(one, observation)
            if step is None:
                break
            one = move(one, step.event, owner=step.owner)
        else:
            pytest.fail(f"{state} {observation} goes round and round")
        if one.state is State.FREE:
            assert not observation.is_reserved
            assert observation.guest is None
            assert observation.consumer is None


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.QUARANTINED]
)
def test_a_mark_or_an_absence_quarantines_in_every_state(state):
    for observation in every_observation():
        if observation.is_marked or not observation.is_present:
            step = states.find_next_step(record(state, SERVER), observation)
            assert step.event is Event.QUARANTINE


FIRST = [
    (Observation(), State.RELEASED),
    (Observation(is_reserved=True), State.QUARANTINED),
    (Observation(guest=SERVER, is_reserved=True), State.IN_USE),
    (Observation(consumer=SERVER, is_reserved=True), State.CLAIMED),
    (Observation(is_marked=True, is_reserved=True), State.QUARANTINED),
    (Observation(is_present=False), State.QUARANTINED),
]


@pytest.mark.parametrize(("observation", "state"), FIRST)
def test_the_first_record_of_a_device(observation, state):
    one = states.make_first_record(GPU, observation, 5.0)
    assert one.state is state
    assert one.reason


def test_no_first_record_is_free():
    for observation in every_observation():
        assert (
            states.make_first_record(GPU, observation, 5.0).state
            is not State.FREE
        )


def test_a_device_that_was_given_away_dirty_says_so():
    step = states.find_next_step(
        record(State.RELEASED), Observation(consumer=OTHER)
    )
    assert step.reason.endswith("and it was not cleaned before")


def test_texts_from_outside_stay_on_their_line():
    one = states.Record(GPU, State.QUARANTINED, "a\nb\x1b[2J", 1.0, "me")
    assert one.reason == "a\\nb\\x1b[2J"
