# SPDX-License-Identifier: Apache-2.0

"""The Placement extension against stock Placement, on the same providers.

Four ways to ask for k devices of one host: stock Placement with its default
options; the same tuned as its help text advises for wide provider trees; the
extension; and stock asked for one device, below which nobody who asks stock
Placement can get.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import gc
import itertools
import json
import logging
import math
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import resource
import sys
import time
from typing import Any
from unittest import mock

from bench import placement_plot
from bench import report

OPTIONS = ("database", "plot")

RESOURCE_CLASS = "CUSTOM_H100"
LIMIT = 1000
"""Nova's default of [scheduler]max_placement_results."""
FAIR = {
    ("placement", "max_allocation_candidates"): 1000,
    ("placement", "allocation_candidates_generation_strategy"): (
        "breadth-first"
    ),
}
"""A part of each host, where not all candidates are returned."""
TUNED = FAIR | {("workarounds", "optimize_for_wide_provider_trees"): True}
STOCK = {"default": {}, "tuned": TUNED}
MEMORY_BYTES = 4 << 30
"""What a stock Placement may use before it counts as failed."""
# About as many as the libvirt driver reports of a host.
ROOT_TRAITS = 60


@dataclasses.dataclass(frozen=True)
class Case:
    """A number of equal hosts, and one request."""

    hosts: int
    devices: int
    """Equal devices of each host, all free."""
    k: int
    """How many of them are asked for."""

    @property
    def goal(self) -> float:
        """How many times the time for one device we want to need at most."""
        return 1.5 if self.hosts >= 10 else 2.0

    @property
    def query(self) -> str:
        """What Nova asks for a flavor with k devices."""
        groups = "".join(
            f"&resources_{number}={RESOURCE_CLASS}:1"
            for number in range(self.k)
        )
        return (
            "resources=VCPU:8,MEMORY_MB:65536,DISK_GB:100&group_policy=none"
            f"{groups}&limit={LIMIT}"
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one question was answered."""

    ms: float
    bytes: int
    hosts: int
    """Hosts that have a candidate."""
    sets: int
    """Different device sets."""
    candidates: int


def _clouds(full: bool) -> Iterator[tuple[int, int]]:
    hosts = (1, 10, 100, 1000) if full else (1, 10, 100)
    return itertools.product(hosts, (8, 16) if full else (8,))


def _ks(devices: int) -> tuple[int, ...]:
    return (1, 2, 4, 6, 8, 16) if devices == 16 else (1, 2, 4, 6, 8)


def run(
    full: bool,
    database: str | None = None,
    plot: pathlib.Path | None = None,
) -> report.Report:
    """Measure every case.

    :param full: up to 1,000 hosts and 16 devices, and 60 seconds for stock
        Placement instead of 5.
    :param database: URL of an empty MariaDB database that may be emptied;
        None for SQLite in memory.
    :param plot: an SVG file to write.
    """
    patience_s = 60.0 if full else 5.0
    result = report.Report(
        "Placement extension and stock Placement, milliseconds a request",
        {
            "hosts": "hosts",
            "devices": "devices",
            "k": "k",
            "bound_ms": "one device",
            "ours_ms": "ours",
            "ratio": "ours / one",
            "collected_ratio": "with collector",
            "goal": "goal",
            "goal_met": "met",
            "tuned_ms": "tuned",
            "tuned_ratio": "tuned / ours",
            "default_ms": "default",
            "default_ratio": "default / ours",
            "ours_kb": "kB",
            "ours_hosts": "hosts in it",
            "ours_sets": "sets",
            "tuned_hosts": "hosts, tuned",
            "tuned_sets": "sets, tuned",
        },
        notes=(
            "one device: stock Placement asked for one device, the least that"
            " a question costs. tuned: stock with",
            "optimize_for_wide_provider_trees, 1,000 candidates,"
            " breadth-first; default: stock with its default options.",
            "with collector: ours / one device, where Python's collector of"
            " garbage is not paused while we answer.",
            f"Stock is stopped after {patience_s:.0f} s, or with"
            f" {MEMORY_BYTES >> 30} GiB; it is then not asked for more"
            " devices. sets: different device sets.",
            "Database: "
            + ("SQLite in memory." if not database else "MariaDB."),
        ),
    )
    for hosts, devices in _clouds(full):
        _measure_cloud(hosts, devices, patience_s, database, result)
    if plot:
        placement_plot.draw(result, plot)
    return result


def _measure_cloud(
    hosts: int,
    devices: int,
    patience_s: float,
    database: str | None,
    result: report.Report,
) -> None:
    cases = [Case(hosts, devices, k) for k in _ks(devices)]
    rows = {case: dataclasses.asdict(case) for case in cases}
    for name in STOCK:
        with _Child(name, hosts, devices, database) as child:
            for case in cases:
                outcome = child.ask(case, patience_s)
                if outcome is None:
                    # More devices take longer.
                    rows[case][f"{name}_ms"] = f"> {patience_s * 1000:,.0f}"
                    rows[case][f"{name}_ratio"] = None
                    break
                rows[case] |= _prefixed(name, outcome)
    from nova_gpu_filter.placement import garbage_collection

    with _running({}, hosts, devices, database) as placement:
        bound_case = dataclasses.replace(cases[0], k=1)
        for case in cases:
            _note(case)
            bound, ours, collected = math.inf, math.inf, math.inf
            for _ in range(_rounds(hosts)):
                bound = min(
                    bound, _ask(placement.stock, bound_case, database).ms
                )
                answer = _ask(placement.ours, case, database)
                ours = min(ours, answer.ms)
                with mock.patch.object(
                    garbage_collection, "pause", contextlib.nullcontext
                ):
                    collected = min(
                        collected, _ask(placement.ours, case, database).ms
                    )
            row = rows[case]
            row |= _prefixed("ours", answer) | {
                "bound_ms": bound,
                "ours_ms": ours,
                "ratio": ours / bound,
                "collected_ratio": collected / bound,
                "goal": case.goal,
                "goal_met": ours / bound <= case.goal,
            }
            for name in STOCK:
                stock_ms = row.get(f"{name}_ms")
                if isinstance(stock_ms, float):
                    row[f"{name}_ratio"] = stock_ms / ours
            _check(case, answer, result)
            result.rows.append(row)
    _note(None)


def _rounds(hosts: int) -> int:
    return 15 if hosts < 100 else 7 if hosts < 1000 else 3


def _prefixed(name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        f"{name}_ms": outcome.ms,
        f"{name}_kb": outcome.bytes / 1000,
        f"{name}_hosts": outcome.hosts,
        f"{name}_sets": outcome.sets,
    }


def _check(case: Case, ours: Outcome, result: report.Report) -> None:
    """Tell where our answer is not what we promise."""
    if case.k == 1:  # Placement has answered that
        return
    covered = min(case.hosts, LIMIT)
    if ours.hosts != covered:
        result.errors.append(f"{case}: {ours.hosts} hosts, not {covered}")
    if ours.sets != ours.candidates:
        result.errors.append(f"{case}: sets come more than once")


def _note(case: Case | None) -> None:
    if sys.stderr.isatty():
        print(f"\r{case or ''}\033[K", end="", file=sys.stderr)


# What is measured.


@contextlib.contextmanager
def _running(
    options: dict[Any, Any], hosts: int, devices: int, database: str | None
) -> Iterator[Any]:
    """Run a Placement with the providers of a cloud."""
    from tests.functional.placement import service

    # As a service does it: at INFO, to a file.
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    with service.Placement(options, database=database) as placement:
        placement.replace_providers(_providers(hosts, devices))
        yield placement


def _providers(hosts: int, devices: int) -> Iterator[Any]:
    """Make hosts like an HGX: NVSwitch, pairs below one PCIe switch."""
    import os_traits

    from tests.functional.placement import service

    traits = tuple(
        name
        for name in sorted(os_traits.get_traits())
        if name.startswith("COMPUTE_")
    )[:ROOT_TRAITS]
    for host in range(hosts):
        root = f"host{host}"
        yield service.Provider(
            root,
            inventories={
                "VCPU": service.Inventory(224),
                "MEMORY_MB": service.Inventory(2 << 20),
                "DISK_GB": service.Inventory(20000),
            },
            traits=traits,
        )
        for device in range(devices):
            yield service.Provider(
                f"{root}_0000:{device:02x}:00.0",
                root,
                {RESOURCE_CLASS: service.Inventory(1)},
                (
                    "CUSTOM_GPU_LINK_NV18_0",
                    f"CUSTOM_GPU_LINK_NODE_{1 + device * 2 // devices}",
                    f"CUSTOM_GPU_LINK_PIX_{3 + device // 2}",
                ),
            )


def _ask(ask: Any, case: Case, database: str | None) -> Outcome:
    """Ask one question and time the answer."""
    # Processor time where the database is in the process: nobody waits for
    # anything, and others may be at work on the machine.
    clock = time.perf_counter if database else time.thread_time
    gc.collect()
    start = clock()
    response = ask(f"/allocation_candidates?{case.query}")
    ms = (clock() - start) * 1000
    if response.status != 200:
        raise RuntimeError(f"{case}: {response.status}: {response.body!r}")
    answer = response.json
    found = answer["allocation_requests"]
    sets = {
        frozenset(
            provider
            for suffix, providers in candidate["mappings"].items()
            if suffix
            for provider in providers
        )
        for candidate in found
    }
    roots = {
        answer["provider_summaries"][provider]["root_provider_uuid"]
        for devices in sets
        for provider in devices
    }
    return Outcome(ms, len(response.body), len(roots), len(sets), len(found))


class _Child:
    """A stock Placement in a process of its own, which can be stopped."""

    def __init__(
        self, name: str, hosts: int, devices: int, database: str | None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, name, hosts, devices, database)
        )

    def __enter__(self) -> "_Child":
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._process.kill()
        self._process.join()

    def ask(self, case: Case, patience_s: float) -> Outcome | None:
        """Ask one question; None if the answer takes too long."""
        _note(case)
        self._pipe.send(case)
        if not self._pipe.poll(patience_s):
            return None
        try:
            outcome: Outcome | None = self._pipe.recv()
        except EOFError:  # it ended, of what it used
            return None
        return outcome


def _serve(
    pipe: connection.Connection,
    name: str,
    hosts: int,
    devices: int,
    database: str | None,
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with _running(STOCK[name], hosts, devices, database) as placement:
        _ask(placement.stock, Case(hosts, devices, 1), database)
        pipe.send("ready")
        while True:
            case = pipe.recv()
            try:
                outcome = _ask(placement.stock, case, database)
                if outcome.ms < 1000:
                    again = _ask(placement.stock, case, database)
                    outcome = min(outcome, again, key=lambda o: o.ms)
            except (MemoryError, RuntimeError):
                outcome = None
            pipe.send(outcome)


if __name__ == "__main__":
    print(json.dumps(run(full=False).as_data(), indent=2))
