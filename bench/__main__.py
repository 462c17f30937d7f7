# SPDX-License-Identifier: Apache-2.0

"""Measure us against stock Nova and Placement: ``python -m bench``."""

import argparse
import importlib
import json
import pathlib
import sys

PARTS = {
    "filter": "GpuPciPassthroughFilter against PciPassthroughFilter",
    "placement": "the Placement extension against stock Placement",
    "full_hosts": "the Placement extension where hosts have no VCPU left",
    "writes": "allocations written at once, through the extension and stock",
    "questions": "random questions to the Placement extension and to stock",
    "scenarios": "servers accepted, links and fragmentation, beside stock",
    "e2e": "select_destinations end to end, ours and stock",
    "commands": "openstack gpu beside the client's own start",
}
"""Name -> what it compares. ``bench.<name>`` has ``run(full) -> Report``.

``run`` also takes the arguments that ``OPTIONS`` of the module names.
"""


def main() -> int:
    """Run the parts; return 1 if one of them compared what is not alike."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="parts: "
        + "; ".join(f"{name}: {what}" for name, what in PARTS.items()),
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"{', '.join(PARTS)}; all of them if none is named",
    )
    parser.add_argument(
        "--full", action="store_true", help="every size; takes many minutes"
    )
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        metavar="FILE",
        help="also write the figures to a file",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="for writes, and for placement in the place of SQLite in memory:"
        " a MariaDB database that may be emptied, as"
        " mysql+pymysql://user:password@host/name",
    )
    parser.add_argument(
        "--hosts",
        type=int,
        action="append",
        metavar="N",
        help="for e2e: measure so many hosts, 2 or more; may be given several"
        " times",
    )
    parser.add_argument(
        "--plot",
        type=pathlib.Path,
        metavar="FILE",
        help="for placement: also draw the figures, as SVG or PNG",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    reports = {}
    for name in arguments.parts or PARTS:
        part = importlib.import_module(f"bench.{name}")
        options = {
            option: getattr(arguments, option)
            for option in getattr(part, "OPTIONS", ())
        }
        reports[name] = part.run(full=arguments.full, **options)
        print(reports[name].as_text(), flush=True)
    if arguments.json:
        figures = {name: report.as_data() for name, report in reports.items()}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(report.errors for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
