# SPDX-License-Identifier: Apache-2.0

"""A scenario file: which cloud, which servers, which schedulers."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import json
import os
from typing import Any
from typing import Final

import yaml

from nova_gpu_filter import files
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import values
from nova_gpu_filter.simulate import workload

_MOST_ARRIVALS = 1_000_000
_TOP_KEYS: Final = frozenset(
    ("title", "inventory", "workload", "scheduler", "fits")
)
_INVENTORY_KEYS: Final = frozenset(
    (
        "hosts",
        "file",
        "columns",
        "machines",
        "machine_by_model",
        "machines_file",
    )
)
_MACHINES_KEYS: Final = frozenset(("machines", "machine_by_model"))
_MIX_KEYS: Final = frozenset(
    ("flavors", "arrivals", "duration", "distribution", "load", "seed")
)
_TRACE_KEYS: Final = frozenset(
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
_MAY_BE_ZERO: Final = ("seed", "max_sets_per_tree")
_SCHEDULER_KEYS: Final = frozenset(
    ("weighers", "max_sets_per_tree", "options")
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One workload on the empty cloud."""

    label: str
    """What tells it from the other runs of the scenario."""
    arrivals: Callable[[int], list[workload.Arrival]]
    """Gives the servers for a capacity in GPUs."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is to be simulated."""

    title: str
    hosts: Sequence[hosts_file.HostSpec]
    runs: Sequence[Run]
    """None if the question is only what fits now."""
    left_out: Sequence[str] = ()
    """A line for each run that was asked for and cannot be had."""
    fits: Sequence[workload.Flavor] = ()
    """Flavors of which to count how many more fit at the end."""
    weighers: str = schedulers.WEIGHERS[0]
    max_sets_per_tree: int = 16
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    """Options of nova.conf: group -> option -> value."""
    seed: int = 1


def load(
    path: str,
    inventory_file: str | None = None,
    workload_file: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Scenario:
    """Read a scenario.

    :param path: of a YAML or JSON file; files that it names are looked for
        beside it.
    :param inventory_file: used instead of the file of its inventory.
    :param workload_file: used instead of the file of its workload.
    :param changes: used instead of what ``workload`` says: load, arrivals,
        seed.
    :raises BadScenario: it cannot be used.
    """
    return make(
        _mapping(read_file(path), path),
        path,
        os.path.dirname(path),
        inventory_file,
        workload_file,
        changes,
    )


def make(
    data: Mapping[str, Any],
    source: str,
    directory: str = "",
    inventory_file: str | None = None,
    workload_file: str | None = None,
    changes: Mapping[str, Any] | None = None,
    hosts: Sequence[hosts_file.HostSpec] | None = None,
) -> Scenario:
    """Make a scenario of what stands in a file; see :func:`load`.

    :param source: what messages call it.
    :param directory: where files are looked for.
    :param hosts: used instead of its inventory.
    """
    _check_keys(data, _TOP_KEYS, source)
    scheduler = _mapping(data.get("scheduler") or {}, f"{source}, scheduler")
    _check_keys(scheduler, _SCHEDULER_KEYS, f"{source}, scheduler")
    weighers = scheduler.get("weighers", schedulers.WEIGHERS[0])
    if weighers not in schedulers.WEIGHERS:
        raise errors.BadScenario(
            source=f"{source}, scheduler",
            problem="weighers: must be one of"
            f" {', '.join(schedulers.WEIGHERS)}",
        )
    places = _mapping(data.get("inventory") or {}, f"{source}, inventory")
    if inventory_file is not None:
        places = {
            key: value for key, value in places.items() if key != "hosts"
        } | {"file": os.path.abspath(inventory_file)}
    servers = data.get("workload")
    if servers is None and workload_file is not None:
        servers = {}
    if servers is not None:
        servers = {
            **_mapping(servers, f"{source}, workload"),
            **(changes or {}),
        }
        if workload_file is not None:
            servers = {
                key: value
                for key, value in servers.items()
                if key in _TRACE_KEYS
            } | {"file": os.path.abspath(workload_file)}
    where = f"{source}, workload"
    runs, left_out = (
        ([], []) if servers is None else _runs(servers, where, directory)
    )
    return Scenario(
        title=str(data.get("title") or os.path.basename(source)),
        hosts=_hosts(places, f"{source}, inventory", directory)
        if hosts is None
        else hosts,
        runs=runs,
        left_out=left_out,
        fits=_flavors(data.get("fits") or (), f"{source}, fits"),
        weighers=weighers,
        max_sets_per_tree=_number(
            scheduler,
            "max_sets_per_tree",
            values.parse_whole,
            16,
            f"{source}, scheduler",
        ),
        options=_mapping(
            scheduler.get("options") or {}, f"{source}, scheduler, options"
        ),
        seed=_number(servers or {}, "seed", values.parse_whole, 1, where),
    )


def read_file(path: str) -> Any:
    """Read a JSON or YAML file.

    :raises BadScenario: it cannot be read.
    """
    try:
        text = files.read_bytes(path).decode("utf-8")
        if path.endswith(".json"):
            return json.loads(text)
        return yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as exc:
        raise errors.BadScenario(source=path, problem=exc) from exc


def _hosts(
    data: Mapping[str, Any], source: str, directory: str
) -> list[hosts_file.HostSpec]:
    _check_keys(data, _INVENTORY_KEYS, source)
    machines = data.get("machines") or {}
    by_model = data.get("machine_by_model") or {}
    if "machines_file" in data:
        path = os.path.join(directory, str(data["machines_file"]))
        known = _mapping(read_file(path), path)
        _check_keys(known, _MACHINES_KEYS, path)
        machines = {**(known.get("machines") or {}), **machines}
        by_model = {**(known.get("machine_by_model") or {}), **by_model}
    if "file" not in data:
        if "hosts" not in data:
            raise errors.BadScenario(
                source=source, problem="give hosts or a file"
            )
        return hosts_file.read(data["hosts"], source, machines, by_model)
    path = os.path.join(directory, str(data["file"]))
    if path.endswith((".yaml", ".yml", ".json")):
        found = read_file(path)
        if isinstance(found, Mapping):
            _check_keys(found, _MACHINES_KEYS | {"hosts"}, path)
            machines = {**machines, **(found.get("machines") or {})}
            by_model = {**by_model, **(found.get("machine_by_model") or {})}
            found = found.get("hosts") or ()
        return hosts_file.read(found, path, machines, by_model)
    columns = _columns(data, source)
    rows = hosts_file.read_csv(path, columns, by_model=bool(by_model))
    return hosts_file.read(rows, path, machines, by_model, columns)


def _runs(
    data: Mapping[str, Any], source: str, directory: str
) -> tuple[list[Run], list[str]]:
    """Give the runs, and a line for each that is left out."""
    seed = _number(data, "seed", values.parse_whole, 1, source)
    loads = data.get("load")
    if loads is not None and not isinstance(loads, list):
        loads = [loads]
    for load_ in loads or ():
        if not isinstance(load_, int | float) or not load_ > 0:
            raise errors.BadScenario(
                source=source, problem="load: must be above 0"
            )
    if "file" in data:
        _check_keys(data, _TRACE_KEYS, source)
        return _trace_runs(data, source, directory, loads, seed)
    _check_keys(data, _MIX_KEYS, source)
    if not loads:
        raise errors.BadScenario(source=source, problem="give a load")
    distribution = data.get("distribution", workload.DISTRIBUTIONS[0])
    if distribution not in workload.DISTRIBUTIONS:
        raise errors.BadScenario(
            source=source,
            problem="distribution: must be one of"
            f" {', '.join(workload.DISTRIBUTIONS)}",
        )
    arrivals = _number(data, "arrivals", values.parse_whole, 1000, source)
    if arrivals > _MOST_ARRIVALS:
        raise errors.BadScenario(
            source=source,
            problem=f"arrivals: must be at most {_MOST_ARRIVALS}",
        )
    mix = workload.Mix(
        shares=workload.read_shares(data.get("flavors") or (), source),
        arrivals=arrivals,
        mean_duration=_number(
            data, "duration", values.parse_number, 1.0, source
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


def _trace_runs(
    data: Mapping[str, Any],
    source: str,
    directory: str,
    loads: list[float] | None,
    seed: int,
) -> tuple[list[Run], list[str]]:
    path = os.path.join(directory, str(data["file"]))
    trace = workload.read_trace(
        path, _columns(data, source), data.get("fractional")
    )
    runs = []
    if "requested" in data:
        requested = _number(
            data, "requested", values.parse_number, 1.0, source
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
                    arrivals=_number(
                        data,
                        "arrivals",
                        values.parse_whole,
                        len(trace.arrivals),
                        source,
                    ),
                    seed=seed,
                ),
            )
        )
    if not runs:
        runs.append(Run("as recorded", lambda capacity: trace.replay()))
    return runs, []


def _flavors(rows: Any, source: str) -> list[workload.Flavor]:
    found = []
    for row in errors.check_rows(rows, source):
        if not isinstance(row, Mapping):
            row = {"gpus": row}
        try:
            found.append(workload.read_flavor(row))
        except (
            AttributeError,
            KeyError,
            OverflowError,
            TypeError,
            ValueError,
        ) as exc:
            raise errors.BadScenario(source=source, problem=exc) from exc
    return found


def _columns(data: Mapping[str, Any], source: str) -> dict[str, str]:
    """Read which column of a CSV file has what: our name -> its name."""
    columns = _mapping(data.get("columns") or {}, f"{source}, columns")
    return {str(ours): str(theirs) for ours, theirs in columns.items()}


def _number(
    data: Mapping[str, Any],
    key: str,
    type_: Callable[[Any], Any],
    default: Any,
    source: str,
) -> Any:
    try:
        value = type_(data.get(key, default))
    except (OverflowError, TypeError, ValueError) as exc:
        raise errors.BadScenario(
            source=source, problem=f"{key}: {exc}"
        ) from exc
    # What is no number is below no number either.
    if not value >= 0 or (not value and key not in _MAY_BE_ZERO):
        raise errors.BadScenario(
            source=source, problem=f"{key}: must be above 0"
        )
    return value


def _mapping(data: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise errors.BadScenario(
            source=source, problem="must be a mapping of names to values"
        )
    return data


def _check_keys(
    data: Mapping[str, Any], known: frozenset[str], source: str
) -> None:
    unknown = sorted(map(str, data.keys() - known))
    if unknown:
        raise errors.BadScenario(
            source=source,
            problem=f"unknown {', '.join(unknown)}; known are"
            f" {', '.join(sorted(known))}",
        )
