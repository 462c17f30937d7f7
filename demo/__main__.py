# SPDX-License-Identifier: Apache-2.0

"""Command line of the demo: ``python -m demo``."""

import argparse
import contextlib
import json
import logging
import sys

EPILOG = """
Exit status: 0 if every expectation held, 1 if not, 2 for a usage error.
"""


def main(argv: list[str] | None = None) -> int:
    """Tell the story and return the exit status."""
    args = _parser().parse_args(argv)
    log_handler = None
    if args.verbose:
        log_handler = logging.StreamHandler(sys.stderr)
        log_handler.setLevel(logging.INFO)
        log_handler.setFormatter(
            logging.Formatter("%(levelname)s %(name)s %(message)s")
        )
    # What libraries warn of is for the service log.
    logging.captureWarnings(True)

    stdout = sys.stdout
    # Should a library print something, it must not get between our lines.
    with contextlib.redirect_stdout(sys.stderr):
        if not args.json:
            print(
                "Starting Nova and Placement in this process ...",
                file=stdout,
                flush=True,
            )
        # Only now, since it takes seconds that --help does not need; and the
        # story first, which chooses the threading model (demo/threads.py).
        from demo import story

        # isort: split

        from demo import report

        reporter = report.Reporter(stdout)
        played = story.play(
            chapters=args.chapters or story.CHAPTERS,
            listener=report.Progress(sys.stderr) if args.json else reporter,
            log_handler=log_handler,
        )
    if args.json:
        json.dump(played.to_dict(), stdout, indent=2, default=_to_json)
        stdout.write("\n")
    else:
        reporter.story_ends(played)
    return 0 if played.held else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo",
        description=(
            "Boot GPU servers on a cloud in one process (Nova, Placement,"
            " libvirt driver on a fake libvirt) and check every step."
        ),
        epilog=EPILOG,
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show what the services log, on stderr",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the whole story as JSON, and nothing else, on stdout",
    )
    parser.add_argument(
        "--chapter",
        dest="chapters",
        metavar="N",
        type=int,
        choices=(1, 2, 3, 4, 5),
        action="append",
        help="play only this chapter (1: 2016, 2: upgrade, 3: today,"
        " 4: topology, 5: VFs and vGPUs); may be given more than once",
    )
    return parser


def _to_json(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} has no form in JSON")


if __name__ == "__main__":
    sys.exit(main())
