# SPDX-License-Identifier: Apache-2.0

"""The command ``nova-gpu-simulate``."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
from importlib import metadata
import json
import os
import sys
from typing import IO
from typing import Any
import warnings

with warnings.catch_warnings():
    # What Nova is built on announces the end of eventlet at import, which is
    # nothing that the user of this command could act on.
    warnings.simplefilter("ignore")
    from nova import objects
    import nova.conf
    from nova.scheduler import host_manager  # noqa: F401

# isort: split

from oslo_config import cfg
from rich import console as rich_console
from rich import markup
from rich import progress as rich_progress

from nova_gpu_filter import conf
from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.nova_rules import names as nova_names
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import plot
from nova_gpu_filter.simulate import real_cloud
from nova_gpu_filter.simulate import report
from nova_gpu_filter.simulate import runs
from nova_gpu_filter.simulate import scenario as scenarios
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.simulate import sections
from nova_gpu_filter.topology import policy

CONF = nova.conf.CONF

_SCHEDULERS = ("gpu", "stock")


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog="nova-gpu-simulate",
        description="Replay GPU servers on a cloud, through our filter and"
        " weighers and through Nova's own, side by side. Needs no service.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=metadata.version("nova-gpu-filter"),
    )
    what = parser.add_argument_group("what to simulate")
    what.add_argument(
        "--scenario",
        metavar="FILE",
        help="YAML or JSON file with an inventory and a workload",
    )
    what.add_argument(
        "--inventory",
        metavar="FILE",
        help="CSV, JSON or YAML file of hosts, instead of the scenario's",
    )
    what.add_argument(
        "--placement",
        metavar="RESOURCE_CLASS,...",
        help="read the hosts with these classes, and what is free on them,"
        " from Placement; needs --config-file with its [placement]",
    )
    what.add_argument(
        "--workload",
        metavar="FILE",
        help="CSV file of servers (arrival, duration, gpus, model, link,"
        " link_policy), instead of the scenario's",
    )
    what.add_argument(
        "--mix",
        metavar="GPUS:SHARE[:LINK],...",
        help="servers that arrive at random, for example"
        " 1:0.4,2:0.2:fabric,4:0.2:fabric,8:0.2:fabric; needs --load",
    )
    what.add_argument(
        "--load",
        metavar="LOAD",
        type=float,
        action="append",
        help="GPUs that servers would have on average if none were refused, as"
        " a share of the GPUs of the cloud; may be repeated",
    )
    what.add_argument(
        "--arrivals", metavar="N", type=int, help="number of random servers"
    )
    what.add_argument(
        "--seed", metavar="N", type=int, help="of everything that is random"
    )
    what.add_argument(
        "--fits",
        metavar="GPUS[:LINK],...",
        help="count how many more servers of these sizes fit at the end, or"
        " now if there is no workload; for example 1,2:fabric,8",
    )
    how = parser.add_argument_group("how to schedule")
    how.add_argument(
        "--scheduler",
        choices=_SCHEDULERS,
        action="append",
        help="gpu is ours, stock is Nova's; may be repeated, default both",
    )
    how.add_argument(
        "--weighers",
        choices=schedulers.WEIGHERS,
        help="which of Nova's weighers take part: PCIWeigher, or all that"
        " Nova enables; default pci",
    )
    how.add_argument(
        "--config-file",
        metavar="FILE",
        action="append",
        default=[],
        help="a nova.conf, for multipliers and [gpu_filter]request_mix; may"
        " be repeated; default none",
    )
    out = parser.add_argument_group("what to print")
    out.add_argument(
        "-f", "--format", choices=("table", "json"), default="table"
    )
    out.add_argument(
        "-o", "--output", metavar="FILE", help="write there, not to stdout"
    )
    out.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw curves, PNG or SVG by the ending; needs Matplotlib",
    )
    out.add_argument(
        "-q", "--quiet", action="store_true", help="no progress bar"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-simulate``.

    :returns: 0, or 3 if the input cannot be used.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        _configure(args.config_file)
        scenario = _scenario(args, parser)
        _set_options(scenario.options, args.scenario)
        results = _simulate(
            scenario,
            args.scheduler or list(_SCHEDULERS),
            args.weighers or scenario.weighers,
            quiet=args.quiet,
        )
        _write(args, scenario.title, results)
    except (exception.GpuFilterError, OSError, cfg.Error) as exc:
        text = printable.one_line(str(exc))
        sys.stderr.write(f"{parser.prog}: {text}\n")
        return arguments.EXIT_BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: stopped\n")
        return 130
    return 0


def _scenario(
    args: argparse.Namespace, parser: argparse.ArgumentParser
) -> scenarios.Scenario:
    """Put the scenario together from file and arguments."""
    if not args.scenario and not args.inventory and not args.placement:
        parser.error("give --scenario, --inventory or --placement")
    if args.inventory and args.placement:
        parser.error("give --inventory or --placement, not both")
    if args.workload and args.mix:
        parser.error("give --workload or --mix, not both")
    data: dict[str, Any] = {}
    if args.scenario:
        # Read as a whole, so that arguments can take the place of parts.
        found = scenarios.read_file(args.scenario)
        if not isinstance(found, dict):
            raise errors.BadScenario(
                source=args.scenario,
                problem="must be a mapping of names to values",
            )
        data = found
    source = args.scenario or args.inventory or "Placement"
    hosts = None
    if args.placement:
        classes = _resource_classes(args.placement)
        hosts = real_cloud.read(real_cloud.connect(), classes)
    changes = {
        key: value
        for key, value in (
            ("load", args.load),
            ("arrivals", args.arrivals),
            ("seed", args.seed),
        )
        if value is not None
    }
    if args.mix:
        changes["flavors"] = _flavors(args.mix, "--mix", with_share=True)
        kept = sections.check_mapping(
            data.get("workload") or {}, f"{source}, workload"
        )
        data["workload"] = {
            key: value
            for key, value in kept.items()
            if key in ("arrivals", "duration", "distribution", "load", "seed")
        }
    elif changes and not args.workload and not data.get("workload"):
        parser.error("--load, --arrivals and --seed need a workload")
    if args.fits:
        data["fits"] = _flavors(args.fits, "--fits", with_share=False)
    scenario = scenarios.make(
        data,
        source,
        os.path.dirname(args.scenario or ""),
        inventory_file=args.inventory,
        workload_file=args.workload,
        changes=changes,
        hosts=hosts,
    )
    for line in scenario.left_out:
        sys.stderr.write(f"{parser.prog}: {printable.one_line(line)}\n")
    if not scenario.runs and not scenario.fits:
        parser.error("nothing to do: give --workload, --mix or --fits")
    return scenario


def _resource_classes(text: str) -> list[str]:
    """Read the resource classes of ``--placement``."""
    try:
        return [
            nova_names.check_resource_class(one) for one in text.split(",")
        ]
    except ValueError as exc:
        raise errors.BadScenario(
            source=f"--placement {text}", problem=exc
        ) from None


def _flavors(text: str, source: str, with_share: bool) -> list[dict[str, Any]]:
    """Read flavors as they are typed: GPUS[:SHARE][:LINK],..."""
    found = []
    for part in text.split(","):
        fields = part.strip().split(":")
        least = 2 if with_share else 1
        if not least <= len(fields) <= least + 1:
            raise errors.BadScenario(
                source=source, problem=f"{part!r} is no flavor"
            )
        row: dict[str, Any] = {"gpus": fields[0]}
        if with_share:
            row["share"] = fields[1]
        if len(fields) > least:
            if fields[-1] not in policy.LINK_VALUES:
                raise errors.BadScenario(
                    source=source,
                    problem=f"{fields[-1]!r} is no link: must be one of"
                    f" {', '.join(policy.LINK_VALUES)}",
                )
            row["link"] = fields[-1]
        found.append(row)
    return found


def _configure(config_files: Sequence[str]) -> None:
    """Read options as nova-scheduler does.

    :raises GpuFilterError: a file cannot be read.
    """
    objects.register_all()
    conf.register_opts(CONF)
    with conf_files.reading(CONF, config_files):
        # They are read one by one when they are asked for.
        pass


def _set_options(
    options: Mapping[str, Mapping[str, Any]], source: str
) -> None:
    """Set the options that a scenario names.

    :raises BadScenario: there is no such option, or its value is none.
    """
    for group, by_name in options.items():
        where = f"{source}, scheduler, options, {group}"
        for name, value in sections.check_mapping(by_name, where).items():
            try:
                CONF.set_override(name, value, group=group)
            # The types of oslo.config expect a text or what they make of one.
            except (cfg.Error, AttributeError, TypeError, ValueError) as exc:
                raise errors.BadScenario(
                    source=f"{where}, {name}", problem=exc
                ) from exc


def _simulate(
    scenario: scenarios.Scenario,
    names: Sequence[str],
    weighers: str,
    quiet: bool,
) -> list[report.Result]:
    """Run everything, one after the other."""
    console = rich_console.Console(stderr=True)
    mix = conf.request_mix(CONF)
    results = []
    is_shown = console.is_terminal and not quiet
    progress = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        disable=not is_shown,
        transient=True,
    )
    # Up to rich 13, one that is disabled ends with an empty line.
    with progress if is_shown else contextlib.nullcontext():
        for run in scenario.runs or (None,):
            for name in names:
                cloud = clouds.Cloud(scenario.hosts, mix)
                scheduler = _make(name, weighers, scenario)
                label = run.label if run else ""
                shown = markup.escape(printable.escape(label))
                outcome = None
                if run is not None:
                    arrivals = _arrivals(run, cloud.capacity, scenario.title)
                    task = progress.add_task(
                        f"{shown}, {name}", total=len(arrivals)
                    )
                    outcome = engine.replay(
                        arrivals,
                        cloud,
                        scheduler,
                        functools.partial(progress.advance, task),
                    )
                fits = {}
                if scenario.fits:
                    task = progress.add_task(
                        f"{shown} fits, {name}", total=len(scenario.fits)
                    )
                    fits = engine.fits(
                        scenario.fits,
                        cloud,
                        scheduler,
                        functools.partial(progress.advance, task),
                    )
                results.append(report.Result(label, outcome, name, fits))
    return results


def _arrivals(run: runs.Run, capacity: int, source: str) -> list[Any]:
    try:
        return run.arrivals(capacity)
    except ValueError as exc:
        raise errors.BadScenario(source=source, problem=exc) from exc


def _make(
    name: str, weighers: str, scenario: scenarios.Scenario
) -> schedulers.Scheduler:
    """Make a scheduler.

    :raises BadScenario: what options name cannot be imported.
    """
    if name == "stock":
        return schedulers.StockScheduler(weighers, scenario.seed)
    try:
        return schedulers.GpuScheduler(
            weighers, scenario.seed, scenario.max_sets_per_tree
        )
    # What nova/loadables.py raises, by the form of the name.
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise errors.BadScenario(
            source="[filter_scheduler]weight_classes",
            problem=f"cannot be loaded: {exc}",
        ) from exc


def _write(
    args: argparse.Namespace, title: str, results: list[report.Result]
) -> None:
    if args.plot:
        plot.write(title, results, args.plot)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            _print(args.format, title, results, file)
    else:
        _print(args.format, title, results, sys.stdout)


def _print(
    format_: str, title: str, results: list[report.Result], file: IO[str]
) -> None:
    if format_ == "json":
        json.dump(report.make_dict(title, results), file, indent=2)
        file.write("\n")
    else:
        width = None if file.isatty() else 120
        report.write_table(title, results, file, width)
