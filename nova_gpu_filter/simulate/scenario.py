# SPDX-License-Identifier: Apache-2.0

"""A scenario file: which cloud, which servers, which schedulers."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
from typing import Any
from typing import Final

import yaml

from nova_gpu_filter import files
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.simulate import runs as runs_lib
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import workload

_TOP_KEYS: Final = ("title", "inventory", "workload", "scheduler", "fits")
_MACHINES_KEYS: Final = ("machines", "machine_by_model")
_HOSTS_KEYS: Final = ("hosts", *_MACHINES_KEYS)
_INVENTORY_KEYS: Final = ("file", "columns", "machines_file", *_HOSTS_KEYS)
_SCHEDULER_KEYS: Final = ("weighers", "max_sets_per_tree", "options")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is to be simulated."""

    title: str
    hosts: Sequence[hosts_file.HostSpec]
    runs: Sequence[runs_lib.Run]
    """None if the question is only what fits now."""
    left_out: Sequence[str]
    """A line for each run that was asked for and cannot be had."""
    fits: Sequence[workload.Flavor]
    """Flavors of which to count how many more fit at the end."""
    weighers: str
    max_sets_per_tree: int
    options: Mapping[str, Mapping[str, Any]]
    """Options of nova.conf: group -> option -> value."""
    seed: int


def make(
    data: Mapping[str, Any],
    source: str,
    directory: str = "",
    inventory_file: str | None = None,
    workload_file: str | None = None,
    changes: Mapping[str, Any] | None = None,
    hosts: Sequence[hosts_file.HostSpec] | None = None,
) -> Scenario:
    """Make a scenario of what stands in a file.

    :param source: what messages call it.
    :param directory: where files that it names are looked for.
    :param inventory_file: used instead of the file of its inventory.
    :param workload_file: used instead of the file of its workload.
    :param changes: used instead of what ``workload`` says: load, arrivals,
        seed.
    :param hosts: used instead of its inventory.
    :raises BadScenario: it cannot be used.
    """
    scenario_values.check_keys(data, _TOP_KEYS, source)
    of_scheduler = f"{source}, scheduler"
    scheduler = scenario_values.check_mapping(
        data.get("scheduler") or {}, of_scheduler
    )
    scenario_values.check_keys(scheduler, _SCHEDULER_KEYS, of_scheduler)
    weighers = scheduler.get("weighers", schedulers.WEIGHERS[0])
    if weighers not in schedulers.WEIGHERS:
        raise errors.BadScenario(
            of_scheduler,
            f"weighers: must be one of {', '.join(schedulers.WEIGHERS)}",
        )
    places = scenario_values.check_mapping(
        data.get("inventory") or {}, f"{source}, inventory"
    )
    if inventory_file is not None:
        places = {
            key: value for key, value in places.items() if key != "hosts"
        } | {"file": os.path.abspath(inventory_file)}
    servers = data.get("workload")
    if servers is None and workload_file is not None:
        servers = {}
    where = f"{source}, workload"
    runs: list[runs_lib.Run] = []
    left_out: list[str] = []
    if servers is not None:
        servers = {
            **scenario_values.check_mapping(servers, where),
            **(changes or {}),
        }
        if workload_file is not None:
            servers = {
                key: value
                for key, value in servers.items()
                if key in runs_lib.TRACE_KEYS
            } | {"file": os.path.abspath(workload_file)}
        runs, left_out = runs_lib.read_runs(servers, where, directory)
    return Scenario(
        title=str(data.get("title") or os.path.basename(source)),
        hosts=_read_hosts(places, f"{source}, inventory", directory)
        if hosts is None
        else hosts,
        runs=runs,
        left_out=left_out,
        fits=_read_flavors(data.get("fits") or (), f"{source}, fits"),
        weighers=weighers,
        max_sets_per_tree=scenario_values.read_setting(
            scheduler, "max_sets_per_tree", 16, of_scheduler
        ),
        options=scenario_values.check_mapping(
            scheduler.get("options") or {}, f"{of_scheduler}, options"
        ),
        seed=scenario_values.read_setting(servers or {}, "seed", 1, where),
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
        raise errors.BadScenario(path, exc) from exc


def _read_hosts(
    data: Mapping[str, Any], source: str, directory: str
) -> list[hosts_file.HostSpec]:
    scenario_values.check_keys(data, _INVENTORY_KEYS, source)
    machines = data.get("machines") or {}
    by_model = data.get("machine_by_model") or {}
    if "machines_file" in data:
        path = os.path.join(directory, str(data["machines_file"]))
        known = scenario_values.check_mapping(read_file(path), path)
        scenario_values.check_keys(known, _MACHINES_KEYS, path)
        machines = {**(known.get("machines") or {}), **machines}
        by_model = {**(known.get("machine_by_model") or {}), **by_model}
    if "file" not in data:
        if "hosts" not in data:
            raise errors.BadScenario(source, "give hosts or a file")
        return hosts_file.read(data["hosts"], source, machines, by_model)
    path = os.path.join(directory, str(data["file"]))
    if path.endswith((".yaml", ".yml", ".json")):
        found = read_file(path)
        if isinstance(found, Mapping):
            scenario_values.check_keys(found, _HOSTS_KEYS, path)
            machines = {**machines, **(found.get("machines") or {})}
            by_model = {**by_model, **(found.get("machine_by_model") or {})}
            found = found.get("hosts") or ()
        return hosts_file.read(found, path, machines, by_model)
    columns = scenario_values.read_columns(data, source)
    rows = hosts_file.read_csv(path, columns, by_model=bool(by_model))
    return hosts_file.read(rows, path, machines, by_model, columns)


def _read_flavors(rows: Any, source: str) -> list[workload.Flavor]:
    found = []
    for row in scenario_values.check_rows(rows, source):
        if not isinstance(row, Mapping):
            row = {"gpus": row}
        try:
            found.append(workload.read_flavor(row))
        except errors.OF_BAD_ROWS as exc:
            raise errors.BadScenario(source, exc) from exc
    return found
