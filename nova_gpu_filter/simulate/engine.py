# SPDX-License-Identifier: Apache-2.0

"""Let servers come and go, and keep account."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import heapq
import itertools
import time

from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload

SAMPLES = 500
"""Points of a curve; a plot has no more to show."""


@dataclasses.dataclass(slots=True)
class Tally:
    """Servers of one size."""

    arrived: int = 0
    accepted: int = 0
    satisfied: int = 0
    """Accepted servers whose GPUs can work together as expected, see
    :meth:`hosts_file.HostKind.satisfies`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The cloud at one moment."""

    time: float
    gpus_requested: int
    """By all servers that have arrived so far."""
    gpus_used: int
    fragmentation: float
    """Sum of F of all hosts, in GPUs."""


@dataclasses.dataclass(slots=True)
class Reason:
    """Servers that were refused for one cause."""

    servers: int = 0
    gpus: int = 0
    example: str | None = None


@dataclasses.dataclass
class Outcome:
    """What became of a workload."""

    capacity: int
    """GPUs of the cloud."""
    tally_by_size: dict[int, Tally] = dataclasses.field(default_factory=dict)
    samples: list[Sample] = dataclasses.field(default_factory=list)
    gpus_used_mean: float = 0.0
    """Averaged over the time from the first arrival to the last."""
    fragmentation_mean: float = 0.0
    """Likewise."""
    reasons: dict[str, Reason] = dataclasses.field(default_factory=dict)
    hosts_refused: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    """How often hosts were refused, by cause, for servers that found none."""
    seconds: float = 0.0
    """How long the simulation took."""

    @property
    def acceptance(self) -> float:
        """Accepted share of all servers."""
        return self._share(lambda size: 1)

    @property
    def acceptance_by_gpus(self) -> float:
        """Accepted share of all GPUs that were asked for."""
        return self._share(lambda size: size)

    def _share(self, weight: Callable[[int], int]) -> float:
        tallies = self.tally_by_size.items()
        arrived = sum(weight(size) * t.arrived for size, t in tallies)
        accepted = sum(weight(size) * t.accepted for size, t in tallies)
        return accepted / arrived if arrived else 1.0

    @property
    def satisfied(self) -> float | None:
        """Share of the servers with several GPUs on a satisfying set.

        None if there are none.
        """
        several = [t for size, t in self.tally_by_size.items() if size > 1]
        accepted = sum(tally.accepted for tally in several)
        if not accepted:
            return None
        return sum(tally.satisfied for tally in several) / accepted


def replay(
    arrivals: Sequence[workload.Arrival],
    cloud: clouds.Cloud,
    scheduler: schedulers.Scheduler,
    tick: Callable[[], object] = lambda: None,
) -> Outcome:
    """Let servers arrive, be placed or refused, and leave.

    :param arrivals: by time.
    :param cloud: holds what is left at the end.
    :param tick: called after each arrival.
    """
    started = time.monotonic()
    outcome = Outcome(cloud.capacity)
    departures: list[tuple[float, int, schedulers.Placed]] = []
    order = itertools.count()  # what leaves at one time leaves as it came
    clock = _Clock(outcome, cloud)
    every = max(1, len(arrivals) // SAMPLES)
    requested = 0
    for number, arrival in enumerate(arrivals):
        while departures and departures[0][0] <= arrival.time:
            leaves, _, placed = heapq.heappop(departures)
            clock.advance(leaves)
            cloud.give_back(placed.host, placed.mask)
        clock.advance(arrival.time)
        flavor = arrival.flavor
        requested += flavor.gpus
        tally = outcome.tally_by_size.setdefault(flavor.gpus, Tally())
        tally.arrived += 1
        chosen = scheduler.choose(flavor, cloud)
        if isinstance(chosen, schedulers.Placed):
            tally.accepted += 1
            tally.satisfied += chosen.host.kind.satisfies(
                chosen.mask, flavor.link
            )
            cloud.take(chosen.host, chosen.mask)
            heapq.heappush(
                departures,
                (arrival.time + arrival.duration, next(order), chosen),
            )
        else:
            _note(outcome, chosen, flavor.gpus)
        if number % every == 0 or number == len(arrivals) - 1:
            outcome.samples.append(
                Sample(
                    arrival.time, requested, cloud.used, cloud.fragmentation
                )
            )
        tick()
    clock.finish()
    outcome.tally_by_size = dict(sorted(outcome.tally_by_size.items()))
    outcome.seconds = time.monotonic() - started
    return outcome


def _note(outcome: Outcome, refused: schedulers.Refused, gpus: int) -> None:
    reason = outcome.reasons.setdefault(refused.cause, Reason())
    reason.servers += 1
    reason.gpus += gpus
    reason.example = reason.example or refused.example
    for cause, hosts in refused.hosts:
        outcome.hosts_refused[cause] += hosts


class _Clock:
    """Averages over simulated time."""

    def __init__(self, outcome: Outcome, cloud: clouds.Cloud) -> None:
        self._outcome = outcome
        self._cloud = cloud
        self._start: float | None = None
        self._now = 0.0
        self._used = 0.0
        self._fragmentation = 0.0

    def advance(self, now: float) -> None:
        """Go on to a later time; nothing has changed since the last."""
        if self._start is None:
            self._start = self._now = now
        passed = now - self._now
        self._used += passed * self._cloud.used
        self._fragmentation += passed * self._cloud.fragmentation
        self._now = now

    def finish(self) -> None:
        """Write the averages down."""
        passed = self._now - (self._start or 0.0)
        if passed > 0:
            self._outcome.gpus_used_mean = self._used / passed
            self._outcome.fragmentation_mean = self._fragmentation / passed


def fits(
    flavors: Iterable[workload.Flavor],
    cloud: clouds.Cloud,
    scheduler: schedulers.Scheduler,
    tick: Callable[[], object] = lambda: None,
) -> dict[workload.Flavor, int]:
    """Count how many more servers of each flavor fit, each kind alone.

    They are placed one after the other until one is refused, then removed
    again: the cloud is left as it was.
    """
    found = {}
    for flavor in flavors:
        placed: list[schedulers.Placed] = []
        while isinstance(
            chosen := scheduler.choose(flavor, cloud), schedulers.Placed
        ):
            cloud.take(chosen.host, chosen.mask)
            placed.append(chosen)
        for chosen in placed:
            cloud.give_back(chosen.host, chosen.mask)
        found[flavor] = len(placed)
        tick()
    return found
