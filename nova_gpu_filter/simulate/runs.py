# SPDX-License-Identifier: Apache-2.0

"""The workloads of a scenario: drawn from a mix, or recorded."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import os
from typing import Any
from typing import Final

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.simulate import sections
from nova_gpu_filter.simulate import workload

_MOST_ARRIVALS = 1_000_000
_MIX_KEYS: Final = frozenset(
    ("flavors", "arrivals", "duration", "distribution", "load", "seed")
)
TRACE_KEYS: Final = frozenset(
    (
        "file",
        "columns",
        "fractional",
        "arrivals",
        "load",
        "requested",
        "seed",
    )
)
"""What ``workload`` may say where it names a file."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One workload on the empty cloud."""

    label: str
    """What distinguishes it from the other runs of the scenario."""
    arrivals: Callable[[int], list[workload.Arrival]]
    """Gives the servers for a capacity in GPUs."""


def read_runs(
    data: Mapping[str, Any], source: str, directory: str
) -> tuple[list[Run], list[str]]:
    """Give the runs, and a line for each that is left out."""
    seed = sections.read_number(
        data, "seed", scenario_values.parse_whole, 1, source
    )
    loads = data.get("load")
    if loads is not None and not isinstance(loads, list):
        loads = [loads]
    for load_ in loads or ():
        if not isinstance(load_, int | float) or not load_ > 0:
            raise errors.BadScenario(
                source=source, problem="load: must be above 0"
            )
    if "file" in data:
        sections.check_keys(data, TRACE_KEYS, source)
        return _make_trace_runs(data, source, directory, loads, seed)
    sections.check_keys(data, _MIX_KEYS, source)
    if not loads:
        raise errors.BadScenario(source=source, problem="give a load")
    distribution = data.get("distribution", workload.DISTRIBUTIONS[0])
    if distribution not in workload.DISTRIBUTIONS:
        raise errors.BadScenario(
            source=source,
            problem="distribution: must be one of"
            f" {', '.join(workload.DISTRIBUTIONS)}",
        )
    arrivals = _read_arrivals(data, 1000, source)
    mix = workload.Mix(
        shares=workload.read_shares(data.get("flavors") or (), source),
        arrivals=arrivals,
        mean_duration=sections.read_number(
            data, "duration", scenario_values.parse_number, 1.0, source
        ),
        distribution=distribution,
    )
    return [
        Run(
            f"load {load_:g}",
            functools.partial(mix.draw, load=float(load_), seed=seed),
        )
        for load_ in loads
    ], []


def _make_trace_runs(
    data: Mapping[str, Any],
    source: str,
    directory: str,
    loads: list[float] | None,
    seed: int,
) -> tuple[list[Run], list[str]]:
    path = os.path.join(directory, str(data["file"]))
    trace = workload.read_trace(
        path, sections.read_columns(data, source), data.get("fractional")
    )
    runs = []
    if "requested" in data:
        requested = sections.read_number(
            data, "requested", scenario_values.parse_number, 1.0, source
        )
        runs.append(
            Run(
                f"filled to {requested:g}",
                functools.partial(trace.fill, requested=requested, seed=seed),
            )
        )
    if trace.missing:
        if not runs:
            raise errors.BadScenario(
                source=path,
                problem=f"{trace.missing}, which all but filling needs:"
                " correct the file, or name the right column under columns, or"
                " give requested",
            )
        return runs, [
            f"{path}: {trace.missing}, so load {load_:g} is left out"
            for load_ in loads or ()
        ]
    for load_ in loads or ():
        runs.append(
            Run(
                f"load {load_:g}",
                functools.partial(
                    trace.draw_at_load,
                    load=float(load_),
                    arrivals=_read_arrivals(data, len(trace.arrivals), source),
                    seed=seed,
                ),
            )
        )
    if not runs:
        runs.append(Run("as recorded", lambda capacity: list(trace.arrivals)))
    return runs, []


def _read_arrivals(data: Mapping[str, Any], default: int, source: str) -> int:
    """Read how many servers arrive.

    :raises BadScenario: it is no number, or more than can be held.
    """
    arrivals: int = sections.read_number(
        data, "arrivals", scenario_values.parse_whole, default, source
    )
    if arrivals > _MOST_ARRIVALS:
        raise errors.BadScenario(
            source=source,
            problem=f"arrivals: must be at most {_MOST_ARRIVALS}",
        )
    return arrivals
