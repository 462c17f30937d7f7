# SPDX-License-Identifier: Apache-2.0

"""What there is to say of hosts that shall take a server, in which order."""

from collections.abc import Sequence
import dataclasses
from typing import Final

# What a change costs; see also holdings. The smaller, the less anybody loses.
OPEN: Final = 0
WEAKER_LINK: Final = 1
NO_LINK: Final = 2
OTHER_SIZE: Final = 4
NEVER: Final = "can never fit"


@dataclasses.dataclass(frozen=True, order=True)
class Cure:
    """One change by which a server would fit."""

    rank: int
    """The smaller, the less it costs anybody."""
    loss: int
    """Devices that others lose, or that the server does without."""
    text: str
    """Completes "it would fit": ``without train-1``."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """What keeps a server from a host whatever is free on it, such as its
    availability zone, or the quota of the project."""

    reason: str
    cure: str
    rank: int = 1
    """Of the cure."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What there is to say of one host."""

    host: str
    servers: int
    """How many fit now."""
    reasons: tuple[str, ...] = ()
    """What keeps the server out; all of it has to change."""
    blockers: tuple[str, ...] = ()
    """Who would have to give something back, with how much each has; where
    there are several ways, the holders of all of the smallest."""
    cures: tuple[Cure, ...] = ()
    """Any one of them is enough; the cheapest first."""
    can_fit: bool = True
    """Whether the server would fit on the host if it were empty."""


def sort_key(verdict: Verdict) -> tuple[int, int, int, str]:
    """Order verdicts: where most fit, then where least has to change."""
    cheapest = min(verdict.cures, default=Cure(99, 0, ""))
    return -verdict.servers, cheapest.rank, cheapest.loss, verdict.host


def choose_first_changes(verdicts: Sequence[Verdict]) -> list[str]:
    """Say what to change first: the cheapest cure, on the first host that has
    it; beside it the nearest size, where another one is needed anywhere."""
    found = [
        (cure, place, verdict.host)
        for place, verdict in enumerate(verdicts)
        for cure in verdict.cures
    ]
    if not found:
        return []
    chosen = [min(found)]
    sizes = [entry for entry in found if entry[0].rank == OTHER_SIZE]
    if not any(verdict.can_fit for verdict in verdicts) and sizes:
        chosen.append(min(sizes))
    lines = []
    for cure, _, host in dict.fromkeys(chosen):
        alike = len({entry[2] for entry in found if entry[0] == cure})
        more = f" (and on {alike - 1} more)" if alike > 1 else ""
        lines.append(f"on {host}{more} {cure.text}")
    return lines


def summarize(verdicts: Sequence[Verdict]) -> str:
    """Say in one line on how many hosts a server fits, and what to do."""
    number = len(verdicts)
    hosts = f"{number} host{'s' * (number != 1)}"
    fitting = sum(bool(verdict.servers) for verdict in verdicts)
    servers = sum(verdict.servers for verdict in verdicts)
    if fitting:
        return (
            f"{servers} fit on {fitting} of {hosts}; where none"
            " starts all the same, see NUMA cells, huge pages and server"
            " groups, which no API shows"
        )
    changes = choose_first_changes(verdicts)
    change = f"it would fit {', or '.join(changes)}"
    if any(verdict.can_fit for verdict in verdicts):
        if not changes:
            return f"fits on none of {hosts}; no single change helps"
        return f"fits on none of {hosts}; first to change: {change}"
    never = f"{NEVER} on any of {hosts}"
    return f"{never}; nearest: {change}" if changes else never
