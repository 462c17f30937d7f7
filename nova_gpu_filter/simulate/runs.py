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
from nova_gpu_filter.simulate import workload

_MOST_ARRIVALS = 1_000_000
_KEYS: Final = ("arrivals", "load", "seed")
_MIX_KEYS: Final = (*_KEYS, "flavors", "duration", "distribution")
TRACE_KEYS: Final = (*_KEYS, "file", "columns", "fractional", "requested")
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
    seed = scenario_values.read_setting(data, "seed", 1, source)
    loads = data.get("load")
    if loads is not None and not isinstance(loads, list):
        loads = [loads]
    for load_ in loads or ():
        if not isinstance(load_, int | float) or not load_ > 0:
            raise errors.BadScenario(source, "load: must be above 0")
    if "file" in data:
        scenario_values.check_keys(data, TRACE_KEYS, source)
        return _make_trace_runs(data, source, directory, loads, seed)
    scenario_values.check_keys(data, _MIX_KEYS, source)
    if not loads:
        raise errors.BadScenario(source, "give a load")
    distribution = data.get("distribution", workload.DISTRIBUTIONS[0])
    if distribution not in workload.DISTRIBUTIONS:
        raise errors.BadScenario(
            source,
            "distribution: must be one of"
            f" {', '.join(workload.DISTRIBUTIONS)}",
        )
    mix = workload.Mix(
        arrivals=_read_arrivals(data, 1000, source),
        shares=workload.read_shares(data.get("flavors") or (), source),
        mean_duration=scenario_values.read_setting(
            data, "duration", 1.0, source
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
    columns = scenario_values.read_columns(data, source)
    trace = workload.read_trace(path, columns, data.get("fractional"))
    runs: list[Run] = []
    if "requested" in data:
        requested = scenario_values.read_setting(
            data, "requested", 1.0, source
        )
        fill = functools.partial(trace.fill, requested=requested, seed=seed)
        runs.append(Run(f"filled to {requested:g}", fill))
    if trace.missing:
        if not runs:
            raise errors.BadScenario(
                path,
                f"{trace.missing}, which all but filling needs:"
                " correct the file, or name the right column under columns, or"
                " give requested",
            )
        return runs, [
            f"{path}: {trace.missing}, so load {load_:g} is left out"
            for load_ in loads or ()
        ]
    for load_ in loads or ():
        draw = functools.partial(
            trace.draw_at_load,
            load=float(load_),
            arrivals=_read_arrivals(data, len(trace.arrivals), source),
            seed=seed,
        )
        runs.append(Run(f"load {load_:g}", draw))
    if not runs:
        runs.append(Run("as recorded", lambda capacity: list(trace.arrivals)))
    return runs, []


def _read_arrivals(data: Mapping[str, Any], default: int, source: str) -> int:
    """Read how many servers arrive.

    :raises BadScenario: it is no number, or more than can be held.
    """
    arrivals = scenario_values.read_setting(data, "arrivals", default, source)
    if arrivals > _MOST_ARRIVALS:
        raise errors.BadScenario(
            source, f"arrivals: must be at most {_MOST_ARRIVALS}"
        )
    return arrivals
