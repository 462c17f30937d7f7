# SPDX-License-Identifier: Apache-2.0

"""The command ``nova-gpu-simulate``."""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import json
import sys
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
from nova_gpu_filter.cmd import simulate_arguments
from nova_gpu_filter.nova_rules import conf_files
from nova_gpu_filter.simulate import cloud as clouds
from nova_gpu_filter.simulate import engine
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import plot
from nova_gpu_filter.simulate import run_report
from nova_gpu_filter.simulate import runs
from nova_gpu_filter.simulate import scenario as scenarios
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.simulate import schedulers

CONF = nova.conf.CONF


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-simulate``.

    :returns: 0, or 3 if the input cannot be used.
    """
    parser = simulate_arguments.build_parser()
    args = parser.parse_args(argv)
    try:
        _configure(args.config_file)
        scenario = simulate_arguments.read_scenario(args, parser)
        _set_options(scenario.options, args.scenario)
        results = _simulate(
            scenario,
            args.scheduler or list(simulate_arguments.SCHEDULERS),
            args.weighers or scenario.weighers,
            quiet=args.quiet,
        )
        _write(args, scenario.title, results)
    except (exception.GpuFilterError, OSError, cfg.Error) as exc:
        text = printable.join_lines(str(exc))
        sys.stderr.write(f"{parser.prog}: {text}\n")
        return arguments.EXIT_BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: stopped\n")
        return 130
    return 0


def _configure(config_files: Sequence[str]) -> None:
    """Read options as nova-scheduler does.

    :raises GpuFilterError: a file cannot be read.
    """
    objects.register_all()
    conf.register_opts(CONF)
    with conf_files.read_into(CONF, config_files):
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
        scenario_values.check_mapping(by_name, where)
        for name, value in by_name.items():
            try:
                CONF.set_override(name, value, group=group)
            # The types of oslo.config expect a text or what they make of one.
            except (cfg.Error, AttributeError, TypeError, ValueError) as exc:
                raise errors.BadScenario(f"{where}, {name}", exc) from exc


def _simulate(
    scenario: scenarios.Scenario,
    names: Sequence[str],
    weighers: str,
    quiet: bool,
) -> list[run_report.Result]:
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

    def show_task(text: str, total: int) -> Callable[[], None]:
        task = progress.add_task(text, total=total)
        return functools.partial(progress.advance, task)

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
                    arrivals = _read_arrivals(
                        run, cloud.capacity, scenario.title
                    )
                    advance = show_task(f"{shown}, {name}", len(arrivals))
                    outcome = engine.replay(
                        arrivals, cloud, scheduler, advance
                    )
                fits = {}
                if scenario.fits:
                    advance = show_task(
                        f"{shown} fits, {name}", len(scenario.fits)
                    )
                    fits = engine.fits(
                        scenario.fits, cloud, scheduler, advance
                    )
                results.append(run_report.Result(label, outcome, name, fits))
    return results


def _read_arrivals(run: runs.Run, capacity: int, source: str) -> list[Any]:
    try:
        return run.arrivals(capacity)
    except ValueError as exc:
        raise errors.BadScenario(source, exc) from exc


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
            "[filter_scheduler]weight_classes", f"cannot be loaded: {exc}"
        ) from exc


def _write(
    args: argparse.Namespace, title: str, results: list[run_report.Result]
) -> None:
    if args.plot:
        plot.write(title, results, args.plot)
    with (
        open(args.output, "w", encoding="utf-8")
        if args.output
        else contextlib.nullcontext(sys.stdout)
    ) as file:
        if args.format == "json":
            json.dump(run_report.make_dict(title, results), file, indent=2)
            file.write("\n")
        else:
            width = None if file.isatty() else 120
            run_report.write_table(title, results, file, width)
