# SPDX-License-Identifier: Apache-2.0

"""The states of a device, and what leads from one to the next.

Facts of Nova that this rests on: a device is given by an allocation in
Placement, before its guest exists, and the allocation outlives the guest: a
stopped server, one that is rebooted hard (libvirt forgets the domain and gets
it anew) and the source of a migration that can be reverted all keep theirs. So
a device is released when neither a domain nor an allocation has it.
"""

from collections.abc import Mapping
import dataclasses
import enum
import types
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter import printable


class State(enum.StrEnum):
    """Where a device is between two servers."""

    FREE = "free"
    """Clean and checked: Nova may give it to a server."""
    CLAIMED = "claimed"
    """It has an allocation, and no domain has it."""
    IN_USE = "in-use"
    """A domain has it."""
    RELEASED = "released"
    """It was used, and is not clean."""
    CLEANING = "cleaning"
    """It is being reset and checked."""
    CHECKED = "checked"
    """It is clean; Placement is about to know."""
    QUARANTINED = "quarantined"
    """It is given to nobody until a person says so."""


class Event(enum.StrEnum):
    """What can happen to a device."""

    CLAIM = "claim"
    """An allocation in Placement has it."""
    START = "start"
    """A domain has it."""
    LEAVE = "leave"
    """No domain has it any more, and an allocation still does."""
    RELEASE = "release"
    """Neither a domain nor an allocation has it any more."""
    FIND_USED = "find-used"
    """It was used, or may have been, while no agent was running."""
    CLEAN = "clean"
    """Cleaning begins."""
    INTERRUPT = "interrupt"
    """Cleaning ended before it was done."""
    PASS = "pass"  # noqa: S105
    """It was reset, and all checks have passed."""
    GIVE_BACK = "give-back"
    """Placement offers it again."""
    QUARANTINE = "quarantine"
    """A check has failed, or a person says so."""
    END_QUARANTINE = "end-quarantine"
    """A person says so; it has to be cleaned before it is given away."""


def _build_transitions() -> Mapping[tuple[State, Event], State]:
    s, e = State, Event
    table = {
        (s.FREE, e.FIND_USED): s.RELEASED,
        (s.IN_USE, e.LEAVE): s.CLAIMED,
        (s.CLAIMED, e.RELEASE): s.RELEASED,
        (s.IN_USE, e.RELEASE): s.RELEASED,
        (s.RELEASED, e.CLEAN): s.CLEANING,
        (s.CLEANING, e.INTERRUPT): s.RELEASED,
        (s.CHECKED, e.INTERRUPT): s.RELEASED,
        (s.CLEANING, e.PASS): s.CHECKED,
        (s.CHECKED, e.GIVE_BACK): s.FREE,
        (s.QUARANTINED, e.END_QUARANTINE): s.RELEASED,
    }
    for state in State:
        if state is not s.QUARANTINED:
            # A person can attach a device by hand at any time, and Nova can
            # claim one before Placement has been told that it is not clean.
            table[state, e.START] = s.IN_USE
            table[state, e.QUARANTINE] = s.QUARANTINED
        if state not in (s.QUARANTINED, s.IN_USE):
            table[state, e.CLAIM] = s.CLAIMED
    return types.MappingProxyType(table)


TRANSITIONS: Final = _build_transitions()
"""(state, event) -> next state. What is not in it cannot happen."""

AGENT: Final = "agent"
"""By whom a change is that no person, and no other service, has made."""
MUST_BE_RESERVED: Final = frozenset(
    {State.RELEASED, State.CLEANING, State.CHECKED, State.QUARANTINED}
)
"""In these states Placement must not offer the device."""

HELD: Final = frozenset({State.CLAIMED, State.IN_USE})
"""In these states a server has the device, or is about to get it."""


class ImpossibleTransition(exception.GpuFilterError):
    """An event that cannot happen in a state."""

    message = "device %(device)s: %(event)s is not possible when %(state)s"


@dataclasses.dataclass(frozen=True, slots=True)
class Record(printable.OneLineTexts):
    """What is known of a device."""

    address: str
    """PCI address: ``0000:85:00.0``."""
    state: State
    reason: str
    """Why it is in this state, in words."""
    since: float
    """Seconds since 1970. It is shown, and nothing is decided by it: clocks
    jump."""
    by: str
    """Who or what brought it there: ``nova``, ``agent``, ``root``."""
    owner: str | None = None
    """UUID of the server, or of the migration, that has or had it."""
    baseline: str = ""
    """How its links and memory were when it was last clean, see ``bus``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What is to be recorded, and why."""

    event: Event
    reason: str
    by: str = AGENT
    """Who or what has done it."""
    owner: str | None = None
    """UUID of who has it now; None keeps who had it last."""
    baseline: str | None = None
    """What it is compared with from now on; None keeps the old one."""


def move(record: Record, step: Step, now: float) -> Record:
    """Give the record of a device after a step.

    :raises ImpossibleTransition: the table has no such transition.
    """
    try:
        state = TRANSITIONS[record.state, step.event]
    except KeyError:
        raise ImpossibleTransition(
            device=record.address, event=step.event, state=record.state
        ) from None
    return dataclasses.replace(
        record,
        state=state,
        reason=step.reason,
        since=now,
        by=step.by,
        owner=record.owner if step.owner is None else step.owner,
        baseline=record.baseline if step.baseline is None else step.baseline,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """What Placement, libvirt and sysfs say of a device at one moment."""

    guest: str | None = None
    """UUID of the domain that has it."""
    consumer: str | None = None
    """UUID of the consumer that has it allocated."""
    is_reserved: bool = False
    """Whether Placement offers it to nobody: ``reserved`` is ``total``."""
    is_marked: bool = False
    """Whether somebody has quarantined it in Placement."""
    is_present: bool = True
    """Whether it is on the bus, and answers."""
    is_one_time_use: bool = True
    """Whether Nova reserves it when it gives it to a server."""
    doubt: str | None = None
    """Why it may have been used although nobody has seen it."""


def make_first_record(
    address: str, observation: Observation, now: float
) -> Record:
    """Make the record of a device that the ledger does not know.

    The ledger is new, or was lost, or the device is. What is reserved may be
    dirty, or a person wants it so: it is quarantined. What is not reserved
    and not in use may have been used before the agent was there: it has to be
    cleaned before it is given away.
    """
    record = Record(
        address, State.RELEASED, "not known whether it is clean", now, AGENT
    )
    step = _find_visible_step(observation)
    if step is None and observation.is_reserved:
        reason = "reserved in Placement, and the ledger does not say why"
        step = Step(Event.QUARANTINE, reason)
    return record if step is None else move(record, step, now)


def find_next_step(record: Record, observation: Observation) -> Step | None:
    """Decide what has happened to a device since its record was written.

    :returns: one step; ask again with its record until there is none.
    """
    if record.state is State.QUARANTINED:
        return None
    step = _find_visible_step(observation)
    if step is not None:
        return step if step.owner is None else _follow_holder(record, step)
    if record.state in HELD:
        return Step(Event.RELEASE, "its server has left", "nova")
    if record.state is not State.FREE:
        return None
    if observation.is_reserved and observation.is_one_time_use:
        # Nova alone sets it, when it gives a device away.
        return Step(Event.FIND_USED, "it was used while no agent was running")
    if observation.is_reserved:
        reason = "reserved in Placement by somebody else"
        return Step(Event.QUARANTINE, reason, "placement")
    if observation.doubt is not None:
        return Step(Event.FIND_USED, observation.doubt)
    return None


def _find_visible_step(observation: Observation) -> Step | None:
    """Give what is seen of a device whatever its record says."""
    if observation.is_marked:
        return Step(Event.QUARANTINE, "quarantined in Placement", "placement")
    if not observation.is_present:
        return Step(Event.QUARANTINE, "it is not on the bus, or is dead")
    if observation.guest is not None:
        return Step(
            Event.START, "a domain has it", "libvirt", observation.guest
        )
    if observation.consumer is not None:
        return Step(
            Event.CLAIM, "allocated in Placement", "nova", observation.consumer
        )
    return None


def _follow_holder(record: Record, step: Step) -> Step | None:
    """Give the step to a holder from the state that a device is in."""
    if step.event is Event.CLAIM and record.state is State.IN_USE:
        reason = "its domain is gone, its allocation is not"
        return Step(Event.LEAVE, reason, "libvirt", step.owner)
    known = State.IN_USE if step.event is Event.START else State.CLAIMED
    if record.state is known and record.owner == step.owner:
        return None
    if record.state in (State.RELEASED, State.CLEANING):
        reason = f"{step.reason}, and it was not cleaned before"
        return dataclasses.replace(step, reason=reason)
    return step
