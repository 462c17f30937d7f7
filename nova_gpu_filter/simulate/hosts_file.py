# SPDX-License-Identifier: Apache-2.0

"""The hosts of a simulated cloud, from CSV, JSON or YAML."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import functools
import io
import itertools
from typing import Any
from typing import Final
from typing import TypeAlias

from nova_gpu_filter import files
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import machine_kinds
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import packing
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology import topology as topologies
from nova_gpu_filter.topology.policy import LinkPolicy

_MOST_GPUS = 1024
"""Of one host: more than any has, and little enough to be simulated."""
_MOST_HOSTS = 100_000
"""Of one row."""
_LISTS: Final = (codec.TAG, "numa", "used")
_KEYS: Final = ("name", "count", "model", "machine", "gpus", *_LISTS)
_Gpus: TypeAlias = tuple[tuple[str | None, ...], tuple[int | None, ...]]
"""The tag and the NUMA node of each GPU."""


@dataclasses.dataclass(frozen=True)
class HostKind:
    """Hosts that differ only in what is free on them."""

    name: str
    model: str
    """Of all of its GPUs; what an alias asks for."""
    links: tuple[str | None, ...]
    """The tag ``gpu_links`` of each GPU; None for a device without it."""
    numa: tuple[int | None, ...]

    @functools.cached_property
    def topology(self) -> topologies.Topology:
        """The links between its GPUs, as the scheduler reads them.

        :raises LinkTextError: a tag cannot be read.
        """
        return host_topologies.build_from_pools(
            [
                (f"GPU {index} of {self.name}", text, node)
                for index, (text, node) in enumerate(
                    zip(self.links, self.numa, strict=True)
                )
            ]
        )

    @property
    def gpus(self) -> int:
        """How many GPUs such a host has."""
        return len(self.links)

    def satisfies(self, mask: int, link: LinkPolicy | None) -> bool:
        """Whether a set of GPUs can work together as its server expects.

        :param link: what the flavor asks. Where the host has fabric
            partitions of that size, only a whole one will do, whatever the
            flavor asks: no other set can be activated. Without a policy the
            set must be as good as the empty host can offer for that size.
        """
        topology, k = self.topology, mask.bit_count()
        if topology.lists_partitions(k):
            return topology.is_whole_partition(mask)
        if link is None:
            packed = packing.pack_by_default(topology, k)
            return packed is not None and packed.count(mask) == 1
        return satisfaction.does_any_set_meet(topology, mask, k, link.link)


@dataclasses.dataclass(frozen=True)
class HostSpec:
    """One host of an inventory."""

    name: str
    kind: HostKind
    used: int = 0
    """Mask of the GPUs that servers have before the simulation begins."""


def read(
    rows: Iterable[Mapping[str, Any]],
    source: str,
    machines: Mapping[str, Any] | None = None,
    machine_by_model: Mapping[str, str] | None = None,
    columns: Mapping[str, str] = scenario_values.NO_COLUMNS,
) -> list[HostSpec]:
    """Make hosts of the rows of an inventory.

    :param rows: each with ``name`` (of the host, or of the kind where there
        is a ``count``), and either ``machine`` (a name), ``gpu_links`` (a tag
        a GPU, ``numa`` their NUMA nodes) or ``gpus`` (a number; nothing is
        known about their links). Also ``model``, and ``used``: numbers of the
        GPUs that are taken, on each of these hosts.
    :param source: what messages call the inventory.
    :param machines: more machines: name -> ``gpu_links`` and ``numa``.
    :param machine_by_model: the machine of rows that name none, by
        ``<model>/<gpus>`` or ``<model>``.
    :param columns: our name -> name in the file, for messages.
    :raises BadScenario: a row cannot be used.
    """
    for part in (machines, machine_by_model):
        if part is not None and not isinstance(part, Mapping):
            raise errors.BadScenario(
                source, "machines and machine_by_model must be mappings"
            )
    reader = _Reader(source, machines or {}, machine_by_model or {}, columns)
    specs: list[HostSpec] = []
    for number, row in enumerate(
        scenario_values.check_rows(rows, f"{source}, hosts"), start=1
    ):
        specs += reader.read_row(number, row)
    if not specs:
        raise errors.BadScenario(source, "no hosts")
    names = {spec.name for spec in specs}
    if len(names) < len(specs):
        raise errors.BadScenario(source, "two hosts have the same name")
    return specs


def read_csv(
    path: str, columns: Mapping[str, str], by_model: bool = False
) -> list[dict[str, Any]]:
    """Read the rows of a CSV file, for :func:`read`.

    :param columns: our name -> name in the file, where they differ.
        Lists (``gpu_links``, ``numa``, ``used``) are separated by semicolons.
    :param by_model: machines are found by models: hosts must have one, or
        say their machine or links themselves.
    :raises BadScenario: it cannot be read, or a column is missing.
    """
    rows = []
    wanted = [("gpus", "machine", codec.TAG)]
    if by_model:
        wanted.append(("model", "machine", codec.TAG))
    for row in read_csv_rows(path, columns, wanted=wanted):
        for key in row.keys() & _LISTS:
            row[key] = row[key].split(";")
        rows.append({key: row[key] for key in row.keys() & _KEYS})
    return rows


def read_csv_rows(
    path: str,
    columns: Mapping[str, str],
    optional: Collection[str] = (),
    wanted: Iterable[Sequence[str]] = (),
) -> list[dict[str, Any]]:
    """Read a CSV file with a header; leave out what is empty.

    :param columns: our name -> name in the file, where they differ.
    :param optional: our names of columns that need not be there.
    :param wanted: our names of columns of which one must be there.
    :raises BadScenario: it cannot be read, or a column is missing.
    """
    try:
        # Spreadsheets put a byte order mark before the first name.
        text = files.read_bytes(path).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        there = reader.fieldnames or ()
        needed = [(ours,) for ours in columns if ours not in optional]
        for names in itertools.chain(needed, wanted):
            theirs = [columns.get(ours, ours) for ours in names]
            if set(theirs).isdisjoint(there):
                raise errors.BadScenario(
                    path,
                    f"no column {' or '.join(map(repr, theirs))}; columns are"
                    f" {', '.join(there)}: write in the scenario which of them"
                    f" it is, as 'columns: {{{names[0]}: NAME}}'",
                )
        ours_by_theirs = {theirs: ours for ours, theirs in columns.items()}
        return [
            {
                ours_by_theirs.get(key, key): value
                for key, value in row.items()
                if key and value
            }
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise errors.BadScenario(path, str(exc)) from exc


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Turns rows into hosts; equal rows share a kind."""

    source: str
    machines: Mapping[str, Any]
    machine_by_model: Mapping[str, str]
    columns: Mapping[str, str]
    kinds: dict[HostKind, HostKind] = dataclasses.field(default_factory=dict)

    def read_row(self, number: int, row: Mapping[str, Any]) -> list[HostSpec]:
        where = f"{self.source}, host {number}"
        scenario_values.check_mapping(row, where)
        scenario_values.check_keys(row, _KEYS, where)
        try:
            kind = self._read_kind(row)
            numbers = [
                one for one in _read_wholes(row, "used") if one is not None
            ]
            if any(not 0 <= one < kind.gpus for one in numbers):
                raise ValueError(f"used: there are only {kind.gpus} GPUs")
            used = topologies.make_mask(numbers)
            name = str(row.get("name") or kind.name)
            count = 1
            if "count" in row:
                count = scenario_values.read_whole(row, "count", self.columns)
            if count < 1:
                raise ValueError("count: must be 1 or more")
            if count > _MOST_HOSTS:
                raise ValueError(f"count: must be at most {_MOST_HOSTS}")
        except errors.OF_BAD_ROWS as exc:
            raise errors.BadScenario(where, exc) from exc
        if "count" not in row:
            return [HostSpec(name, kind, used)]
        return [
            HostSpec(f"{name}-{place}", kind, used) for place in range(count)
        ]

    def _read_kind(self, row: Mapping[str, Any]) -> HostKind:
        (links, numa), machine = self._read_gpus(row)
        model = str(row.get("model") or "gpu")
        kind = HostKind(
            name=machine or f"{model}-{len(links)}",
            model=model,
            links=links,
            numa=numa,
        )
        assert kind.topology.n == len(links)  # now: tags can be read
        return self.kinds.setdefault(kind, kind)

    def _read_gpus(self, row: Mapping[str, Any]) -> tuple[_Gpus, str | None]:
        """Return the GPUs of a host, and the name of its machine."""
        gpus = None
        if "gpus" in row:
            gpus = scenario_values.read_whole(row, "gpus", self.columns)
        if gpus is not None and gpus > _MOST_GPUS:
            raise ValueError(f"gpus: must be at most {_MOST_GPUS}")
        machine = row.get("machine")
        if machine is None and codec.TAG not in row:
            model = row.get("model")
            machine = self.machine_by_model.get(
                f"{model}/{gpus}", self.machine_by_model.get(str(model))
            )
        if machine is not None:
            found = self._read_machine(str(machine))
        elif codec.TAG in row:
            found = _read_tags(row)
        elif gpus is not None:
            found = (None,) * gpus, (None,) * gpus
        else:
            raise ValueError("give machine, gpu_links or gpus")
        there = len(found[0])
        if gpus not in (None, there):
            raise ValueError(
                f"gpus is {gpus}, but {machine or codec.TAG} has {there}"
            )
        if not there:
            raise ValueError("no GPUs")
        return found, machine

    def _read_machine(self, name: str) -> _Gpus:
        if name in self.machines:
            return _read_tags(self.machines[name])
        if name not in machine_kinds.MACHINES:
            known = sorted({*machine_kinds.MACHINES, *self.machines})
            raise ValueError(
                f"machine {name!r} is not known; known are {', '.join(known)}"
            )
        return _build_named(name)


@functools.cache
def _build_named(name: str) -> _Gpus:
    topology = machine_kinds.MACHINES[name]()
    # A device without any link has no tag, rather than an empty one.
    links = tuple(
        codec.format_text(device) or None
        for device in groups.decompose(topology)
    )
    return links, topology.numa


def _read_tags(row: Mapping[str, Any]) -> _Gpus:
    links = tuple(str(text) if text else None for text in row[codec.TAG])
    numa = _read_wholes(row, "numa") or (None,) * len(links)
    if len(numa) != len(links):
        raise ValueError(f"{len(links)} gpu_links, but {len(numa)} numa")
    return links, tuple(numa)


def _read_wholes(row: Mapping[str, Any], key: str) -> Sequence[int | None]:
    """Read a list of whole numbers, of which each can be left out.

    :raises ValueError: one of them is something else.
    """
    try:
        return [
            None if one in (None, "") else scenario_values.parse_whole(one)
            for one in row.get(key) or ()
        ]
    except ValueError as exc:
        raise ValueError(f"{key}: {exc}") from None
