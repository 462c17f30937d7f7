# SPDX-License-Identifier: Apache-2.0

"""The arguments of ``nova-gpu-simulate``, and the scenario that they make."""

import argparse
from importlib import metadata
import os
import sys
from typing import Any
from typing import Final

from nova_gpu_filter import printable
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.nova_rules import names as nova_names
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import real_cloud
from nova_gpu_filter.simulate import scenario as scenarios
from nova_gpu_filter.simulate import scenario_values
from nova_gpu_filter.simulate import schedulers
from nova_gpu_filter.topology import policy

SCHEDULERS: Final = ("gpu", "stock")
"""What servers can be replayed through, as operators name it."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
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
        choices=SCHEDULERS,
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


def read_scenario(
    args: argparse.Namespace, parser: argparse.ArgumentParser
) -> scenarios.Scenario:
    """Put the scenario together from file and arguments.

    What needs others to be given ends the command, as a wrong argument does.

    :raises BadScenario: a file or a value cannot be used.
    """
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
        data = dict(scenario_values.check_mapping(found, args.scenario))
    source = args.scenario or args.inventory or "Placement"
    hosts = None
    if args.placement:
        classes = _read_resource_classes(args.placement)
        hosts = real_cloud.read(real_cloud.connect(), classes)
    given = {
        "load": args.load,
        "arrivals": args.arrivals,
        "seed": args.seed,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if args.mix:
        changes["flavors"] = _read_flavors(args.mix, "--mix", with_share=True)
        kept = scenario_values.check_mapping(
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
        data["fits"] = _read_flavors(args.fits, "--fits", with_share=False)
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
        sys.stderr.write(f"{parser.prog}: {printable.join_lines(line)}\n")
    if not scenario.runs and not scenario.fits:
        parser.error("nothing to do: give --workload, --mix or --fits")
    return scenario


def _read_resource_classes(text: str) -> list[str]:
    """Read the resource classes of ``--placement``."""
    try:
        return [
            nova_names.check_resource_class(one) for one in text.split(",")
        ]
    except ValueError as exc:
        raise errors.BadScenario(f"--placement {text}", exc) from None


def _read_flavors(
    text: str, source: str, with_share: bool
) -> list[dict[str, Any]]:
    """Read flavors as they are typed: GPUS[:SHARE][:LINK],..."""
    found = []
    for part in text.split(","):
        fields = part.strip().split(":")
        least = 2 if with_share else 1
        if not least <= len(fields) <= least + 1:
            raise errors.BadScenario(source, f"{part!r} is no flavor")
        row: dict[str, Any] = {"gpus": fields[0]}
        if with_share:
            row["share"] = fields[1]
        if len(fields) > least:
            if fields[-1] not in policy.LINK_VALUES:
                raise errors.BadScenario(
                    source,
                    f"{fields[-1]!r} is no link: must be one of"
                    f" {', '.join(policy.LINK_VALUES)}",
                )
            row["link"] = fields[-1]
        found.append(row)
    return found
