# SPDX-License-Identifier: Apache-2.0

"""The servers that ask for GPUs: made of a mix, or read from a trace."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import math
import random
from typing import Any
from typing import Final

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.topology import policy

DISTRIBUTIONS: Final = ("exponential", "fixed")
FRACTIONAL: Final = ("drop", "round_up")
_ENDS: Final = ("departure", "duration")
_TIMES: Final = ("arrival", *_ENDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Flavor:
    """What a server asks for."""

    gpus: int
    model: str | None = None
    """The model its alias names; None for an alias that any GPU matches."""
    link: policy.LinkPolicy | None = None
    """What ``gpu:link`` says; Nova's own scheduler does not read it."""

    @property
    def extra_specs(self) -> dict[str, str]:
        """The link policy as it stands in the flavor."""
        if self.link is None:
            return {}
        specs = {policy.LINK_KEY: self.link.link.value}
        if not self.link.required:
            specs[policy.LINK_POLICY_KEY] = "preferred"
        return specs


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """One server."""

    time: float
    duration: float
    """In the unit of ``time``; infinite for servers that stay."""
    flavor: Flavor


@dataclasses.dataclass(frozen=True)
class Mix:
    """Servers that arrive at random (a Poisson process)."""

    shares: tuple[tuple[Flavor, float], ...]
    """Each flavor and its weight among the arrivals."""
    arrivals: int
    mean_duration: float = 1.0
    distribution: str = "exponential"
    """How durations vary: one of :data:`DISTRIBUTIONS`."""

    def draw(self, capacity: int, load: float, seed: int) -> list[Arrival]:
        """Draw the arrivals.

        :param capacity: GPUs of the cloud.
        :param load: GPUs that servers would have on average, if none were
            refused, as a share of the capacity.
        :param seed: the same servers arrive with each load, only faster.
        """
        flavors = [flavor for flavor, _ in self.shares]
        weights = [weight for _, weight in self.shares]
        gpus = sum(
            flavor.gpus * weight for flavor, weight in self.shares
        ) / sum(weights)
        mean_gap = gpus * self.mean_duration / (load * capacity)
        chance = random.Random(seed)  # noqa: S311 (no secret)
        found = []
        now = 0.0
        for _ in range(self.arrivals):
            now += chance.expovariate(1.0) * mean_gap
            duration = self.mean_duration
            if self.distribution == "exponential":
                duration *= chance.expovariate(1.0)
            (flavor,) = chance.choices(flavors, weights)
            found.append(Arrival(now, duration, flavor))
        return found


@dataclasses.dataclass(frozen=True)
class Trace:
    """Servers that were seen in a cloud."""

    arrivals: tuple[Arrival, ...]
    """By time."""
    missing: str = ""
    """Which times it has not, or in which line they make no sense, so that
    only :meth:`fill` is possible, which needs none; empty if nothing."""

    def draw_at_load(
        self, capacity: int, load: float, arrivals: int, seed: int
    ) -> list[Arrival]:
        """Draw servers that arrive at random and stay as long as they did.

        Traces have servers that stay from the beginning to the end; so the
        pace is set such that the average over the simulated time is right,
        rather than an average that would be reached some day.

        :param load: see :meth:`Mix.draw`; from the first arrival to the last.
        :param arrivals: how many; drawn with replacement.
        :raises ValueError: so few servers never ask for so many GPUs, or
            all of them stay.
        """
        if all(math.isinf(arrival.duration) for arrival in self.arrivals):
            raise ValueError(
                "load: no server has a duration or departure, so all stay;"
                " give requested in place of load"
            )
        chance = random.Random(seed)  # noqa: S311 (no secret)
        drawn = chance.choices(self.arrivals, k=arrivals)
        times = list(
            itertools.accumulate(chance.expovariate(1.0) for _ in drawn)
        )
        scale = _find_scale(times, drawn, load * capacity)
        return [
            dataclasses.replace(arrival, time=time * scale)
            for time, arrival in zip(times, drawn, strict=True)
        ]

    def fill(
        self, capacity: int, requested: float, seed: int
    ) -> list[Arrival]:
        """Draw servers of the trace that stay, until the cloud is full.

        One a unit of time, drawn with replacement, as in the evaluation of
        "Beware of Fragmentation" (USENIX ATC 2023).

        :param requested: GPUs that are asked for until the end, as a share of
            the capacity.
        """
        chance = random.Random(seed)  # noqa: S311 (no secret)
        found: list[Arrival] = []
        asked = 0
        while asked < requested * capacity:
            flavor = chance.choice(self.arrivals).flavor
            asked += flavor.gpus
            found.append(Arrival(float(len(found)), math.inf, flavor))
        return found


def _find_scale(
    times: Sequence[float], drawn: Sequence[Arrival], gpus: float
) -> float:
    """Find the factor of times at which servers have so many GPUs on average.

    :param times: of arrivals, ascending.
    :raises ValueError: there is none.
    """

    def average(scale: float) -> float:
        end = times[-1] * scale
        work = sum(
            arrival.flavor.gpus * min(arrival.duration, end - time * scale)
            for time, arrival in zip(times, drawn, strict=True)
        )
        return work / end

    low, high = 1e-12, 1e12
    if not average(high) < gpus < average(low):
        raise ValueError(
            f"load: {len(drawn)} servers have between {average(high):.0f} and"
            f" {average(low):.0f} GPUs on average, never {gpus:.0f}; change"
            " arrivals"
        )
    for _ in range(100):
        middle = math.sqrt(low * high)
        if average(middle) > gpus:
            low = middle  # faster than wanted
        else:
            high = middle
    return high


def read_flavor(
    row: Mapping[str, Any],
    columns: Mapping[str, str] = scenario_values.NO_COLUMNS,
) -> Flavor:
    """Read ``gpus``, ``model``, ``link`` and ``link_policy``.

    :param columns: our name -> name in the file, where they differ.
    :raises ValueError: one of them makes no sense.
    """
    gpus = scenario_values.read_whole(row, "gpus", columns)
    if gpus < 1:
        raise ValueError(
            f"{scenario_values.describe('gpus', columns)}: must be 1 or more"
        )
    specs = {
        key: str(row[name])
        for key, name in (
            (policy.LINK_KEY, "link"),
            (policy.LINK_POLICY_KEY, "link_policy"),
        )
        if row.get(name)
    }
    model = row.get("model")
    return Flavor(gpus, str(model) if model else None, policy.parse(specs))


def read_shares(
    rows: Iterable[Mapping[str, Any]], source: str
) -> tuple[tuple[Flavor, float], ...]:
    """Read the flavors of a mix, each with its ``share``.

    :raises BadScenario: a flavor cannot be used.
    """
    shares = []
    for number, row in enumerate(
        scenario_values.check_rows(rows, f"{source}, flavors"), start=1
    ):
        try:
            share = scenario_values.read_number(row, "share")
            if not 0 < share < math.inf:
                raise ValueError("share: must be above 0")
            shares.append((read_flavor(row), share))
        except (KeyError, OverflowError, TypeError, ValueError) as exc:
            raise _make_row_error(f"{source}, flavor {number}", exc) from exc
    if not shares:
        raise errors.BadScenario(source, "no flavors")
    return tuple(shares)


def read_trace(
    path: str,
    columns: Mapping[str, str],
    fractional: Mapping[str, Any] | None = None,
) -> Trace:
    """Read a trace from CSV.

    Columns are ``arrival`` and ``duration`` (or ``departure``) in one unit,
    ``gpus``, and if wanted ``model``, ``link`` and ``link_policy``. Servers
    without GPUs are passed over; those without a duration stay. Where times
    are missing or make no sense, the trace can still fill a cloud.

    :param columns: our name -> name in the file, where they differ.
    :param fractional: how to treat servers that ask for a part of one GPU:
        ``column`` in which the part stands, ``whole`` (its value for a whole
        GPU) and ``treat``, one of :data:`FRACTIONAL`. None if there are none.
    :raises BadScenario: it cannot be read.
    """
    part = _read_part(fractional) if fractional else None
    wanted = [("gpus",)]
    if part and part.least:
        wanted.append((part.column,))
    rows = hosts_file.read_csv_rows(path, columns, _TIMES, wanted)
    missing = _describe_missing_times(rows, columns)
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            if "gpus" not in row or not scenario_values.read_whole(
                row, "gpus", columns
            ):
                continue
            if part and (
                scenario_values.read_number(row, part.column, columns)
                < part.least
            ):
                continue
            flavor = read_flavor(row, columns)
        except ValueError as exc:
            raise _make_row_error(f"{path}, line {number}", exc) from exc
        time, duration = 0.0, math.inf
        if not missing:
            try:
                time, duration = _read_times(row, columns)
            except ValueError as exc:
                missing = f"line {number}: {exc}"
        found.append(Arrival(time, duration, flavor))
    if not found:
        raise errors.BadScenario(path, "no servers with GPUs")
    return Trace(
        tuple(sorted(found, key=lambda arrival: arrival.time)), missing
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """Which servers are left out, as they ask for a part of one GPU."""

    column: str
    least: float
    """Servers with less are left out; 0 for none."""


def _read_part(fractional: Mapping[str, Any]) -> _Part:
    """Read what a scenario says of parts of GPUs.

    :raises BadScenario: it makes no sense.
    """
    try:
        treat = fractional.get("treat", "drop")
        if treat not in FRACTIONAL:
            raise ValueError(f"treat: must be one of {', '.join(FRACTIONAL)}")
        if treat != "drop":
            return _Part("gpus", 0)
        whole = float(fractional["whole"])
        if not 0 < whole < math.inf:
            raise ValueError("whole: must be above 0")
        return _Part(str(fractional["column"]), whole)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise _make_row_error("fractional", exc) from exc


def _describe_missing_times(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> str:
    """Say which times a trace has not; empty if it can be replayed.

    Servers without a duration stay; but where the scenario says in which
    column it is, a file without that is another file.
    """
    there = {ours for row in rows for ours in _TIMES if ours in row}
    ends = [ours for ours in _ENDS if ours in columns]
    if "arrival" not in there:
        missing = "arrival"
    elif ends and there.isdisjoint(_ENDS):
        missing = ends[0]
    else:
        return ""
    column = columns.get(missing, missing)
    return f"no times of {missing} (column {column!r})"


def _read_times(
    row: Mapping[str, Any], columns: Mapping[str, str]
) -> tuple[float, float]:
    """Read when a server arrived, and how long it was there.

    :raises ValueError: one of them makes no sense.
    """
    time = scenario_values.read_number(row, "arrival", columns)
    duration = math.inf
    if "duration" in row:
        duration = scenario_values.read_number(row, "duration", columns)
    elif "departure" in row:
        departure = scenario_values.read_number(row, "departure", columns)
        duration = departure - time
    if not duration >= 0 or not math.isfinite(time):
        raise ValueError("arrival and duration: must be numbers from 0 on")
    return time, duration


def _make_row_error(source: str, exc: Exception) -> errors.BadScenario:
    problem: object = exc
    if isinstance(exc, KeyError):
        problem = f"no {exc.args[0]}"
    return errors.BadScenario(source, problem)
