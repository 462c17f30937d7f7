# SPDX-License-Identifier: Apache-2.0

"""What a simulation found, for people and for programs."""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import IO
from typing import Any
from typing import TypeAlias

from rich import box
from rich import console as rich_console
from rich import markup
from rich import table as rich_table
from rich import text as rich_text

from nova_gpu_filter import printable
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import workload


@dataclasses.dataclass(frozen=True)
class Result:
    """One run with one scheduler."""

    run: str
    """Its label; empty where there is no workload."""
    outcome: engine.Outcome | None
    """None where there is no workload."""
    scheduler: str
    fits: dict[workload.Flavor, int]
    """How many more servers of each flavor fit at the end."""


def make_dict(title: str, results: Iterable[Result]) -> dict[str, Any]:
    """Return everything as JSON can hold it.

    Shares are from 0 to 1, GPUs are numbers of GPUs, times are in the unit of
    the workload. ``satisfied`` is None where no server had several GPUs.
    """
    return {"title": title, "results": [_make_result(r) for r in results]}


def _make_result(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": result.run,
        "scheduler": result.scheduler,
    }
    outcome = result.outcome
    if outcome is not None:
        found |= {
            "capacity_gpus": outcome.capacity,
            "acceptance": outcome.acceptance,
            "acceptance_by_gpus": outcome.acceptance_by_gpus,
            "satisfied": outcome.satisfied,
            "gpus_used_mean": outcome.gpus_used_mean,
            "gpus_used_end": outcome.samples[-1].gpus_used,
            "fragmentation_mean_gpus": outcome.fragmentation_mean,
            "fragmentation_end_gpus": outcome.samples[-1].fragmentation,
            "sizes": [
                {"gpus": size} | dataclasses.asdict(tally)
                for size, tally in outcome.tally_by_size.items()
            ],
            "refusals": [
                {"cause": cause} | dataclasses.asdict(reason)
                for cause, reason in _tabulate_servers(outcome)
            ],
            "hosts_refused": dict(outcome.hosts_refused.most_common()),
            "series": [dataclasses.asdict(s) for s in outcome.samples],
            "seconds": round(outcome.seconds, 3),
        }
    if result.fits:
        found["fits"] = [
            {"gpus": flavor.gpus, "model": flavor.model}
            | {"extra_specs": flavor.extra_specs, "servers": servers}
            for flavor, servers in result.fits.items()
        ]
    return found


_Outcomes: TypeAlias = Sequence[tuple[Result, engine.Outcome]]


def list_outcomes(results: Iterable[Result]) -> _Outcomes:
    """List the results of workloads, with what became of these."""
    return [(one, one.outcome) for one in results if one.outcome is not None]


def write_table(
    title: str, results: Sequence[Result], file: IO[str], width: int | None
) -> None:
    """Print tables for people.

    :param width: in characters; None for that of the terminal.
    """
    console = rich_console.Console(
        file=file, width=width, highlight=False, soft_wrap=width is None
    )
    console.print(_to_rich_text(title))
    outcomes = list_outcomes(results)
    if outcomes:
        console.print()
        console.print(_make_overview(outcomes))
        console.print()
        console.print(_tabulate_sizes(outcomes))
        _print_reasons(console, outcomes)
    if any(result.fits for result in results):
        console.print()
        console.print(_fits(results))


def _to_rich_text(text: str) -> rich_text.Text:
    """Give a text from a scenario to rich, which takes it as it stands."""
    return rich_text.Text(printable.escape(text))


def _make_table(*columns: str) -> rich_table.Table:
    """Make a table whose first two columns are words, the others numbers."""
    table = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns[:2]:
        table.add_column(column, no_wrap=True)
    for column in columns[2:]:
        table.add_column(column, justify="right")
    return table


def _make_overview(outcomes: _Outcomes) -> rich_table.Table:
    table = _make_table(
        "workload",
        "scheduler",
        "servers accepted",
        "GPUs accepted",
        "of several GPUs on a good set",
        "GPUs used, mean",
        "at the end",
        "F, mean",
        "at the end",
    )
    for result, outcome in outcomes:
        last = outcome.samples[-1]
        table.add_row(
            _to_rich_text(result.run),
            result.scheduler,
            _format_percent(outcome.acceptance),
            _format_percent(outcome.acceptance_by_gpus),
            _format_percent(outcome.satisfied),
            _format_percent(outcome.gpus_used_mean / outcome.capacity),
            _format_percent(last.gpus_used / outcome.capacity),
            f"{outcome.fragmentation_mean:.1f}",
            f"{last.fragmentation:.1f}",
        )
    return table


def _tabulate_sizes(outcomes: _Outcomes) -> rich_table.Table:
    table = _make_table(
        "workload",
        "scheduler",
        "GPUs",
        "servers",
        "accepted",
        "on a good set",
    )
    for result, outcome in outcomes:
        for size, tally in outcome.tally_by_size.items():
            good = tally.satisfied / tally.accepted if tally.accepted else None
            table.add_row(
                _to_rich_text(result.run),
                result.scheduler,
                str(size),
                str(tally.arrived),
                _format_percent(tally.accepted / tally.arrived),
                _format_percent(good if size > 1 else None),
            )
    return table


def _print_reasons(console: rich_console.Console, outcomes: _Outcomes) -> None:
    for result, outcome in outcomes:
        if not outcome.reasons:
            continue
        console.print()
        console.print(
            _to_rich_text(f"{result.run}, {result.scheduler}, refused:")
        )
        for cause, reason in _tabulate_servers(outcome):
            servers = f"{reason.servers} servers, {reason.gpus} GPUs"
            console.print(_to_rich_text(f"  {servers}: {cause}"))
            if reason.example:
                console.print(
                    _to_rich_text(f"    for example: {reason.example}")
                )


def _name_flavor(flavor: workload.Flavor) -> str:
    specs = (f"{key}={value}" for key, value in flavor.extra_specs.items())
    words = (f"{flavor.gpus} GPUs", flavor.model or "", *specs)
    return printable.join_lines(" ".join(words))


def _fits(results: Sequence[Result]) -> rich_table.Table:
    flavors = dict.fromkeys(one for result in results for one in result.fits)
    table = _make_table(
        "how many more fit",
        "scheduler",
        *(markup.escape(_name_flavor(flavor)) for flavor in flavors),
    )
    for result in results:
        table.add_row(
            _to_rich_text(f"after {result.run}" if result.run else "now"),
            result.scheduler,
            *(str(result.fits.get(flavor, "")) for flavor in flavors),
        )
    return table


def _tabulate_servers(
    outcome: engine.Outcome,
) -> list[tuple[str, engine.Reason]]:
    return sorted(outcome.reasons.items(), key=lambda item: -item[1].servers)


def _format_percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
