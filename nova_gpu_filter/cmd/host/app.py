# SPDX-License-Identifier: Apache-2.0

"""The application: global options, and exit codes that can be relied on."""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
from importlib import metadata
import inspect
import io
import sys
from typing import Any

from nova_gpu_filter import printable
from nova_gpu_filter.cmd import arguments

NAMESPACE = "nova_gpu_filter.host"
"""The entry points of the commands, by their names."""

EXIT_BAD_INPUT = arguments.EXIT_BAD_INPUT
"""1 and 2 are answers of ``check``: argparse may not use them for errors."""


class _Help(argparse.Action):
    """Print the help, with the commands, which are loaded for it only."""

    def __call__(self, parser: Any, *_arguments: Any, **_named: Any) -> None:
        parser.epilog = "commands:\n" + "\n".join(
            f"  {name:<10} {summary}" for name, summary in _list_summaries()
        )
        parser.print_help()
        parser.exit()


def list_commands() -> dict[str, metadata.EntryPoint]:
    """List the subcommands, keyed by name."""
    return {each.name: each for each in metadata.entry_points(group=NAMESPACE)}


def _list_summaries() -> Iterator[tuple[str, str]]:
    for name, entry_point in sorted(list_commands().items()):
        text = inspect.getdoc(entry_point.load()) or ""
        yield name, text.partition("\n")[0].rstrip(".")


class HostApp:
    """What commands need of the application.

    :ivar options: the global options, when they have been read.
    """

    NAME = "nova-gpu-host"

    def __init__(self) -> None:
        # Names from outside go through here to a terminal.
        self.stdout = printable.Stream(sys.stdout)
        self.stderr = printable.Stream(sys.stderr)
        self.options = argparse.Namespace()
        self.parser = self._make_parser()

    def _make_parser(self) -> argparse.ArgumentParser:
        parser = arguments.Parser(
            prog=self.NAME,
            description="Find the GPUs of a compute node, check that they can"
            " be passed through, and write the nova.conf. Reading needs no"
            " root. 'COMMAND --help' explains a command.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
        )
        parser.add_argument(
            "-h",
            "--help",
            action=_Help,
            nargs=0,
            help="print this help and exit",
        )
        parser.add_argument(
            "--version",
            action="version",
            version=f"%(prog)s {metadata.version('nova-gpu-filter')}",
            help="print the version and exit",
        )
        parser.add_argument(
            "--debug",
            action="store_true",
            help="print tracebacks of unexpected errors",
        )
        parser.add_argument(
            "--sysfs-root",
            metavar="DIR",
            default="/",
            help="read the host's files (/sys, /proc, /etc ...) below DIR,"
            " for example where a capture was unpacked; default /",
        )
        # A command, and all that follows it.
        parser.add_argument(
            "command", nargs=argparse.PARSER, help=argparse.SUPPRESS
        )
        parser.usage = (
            f"{self.NAME} [-h] [--version] [--debug] [--sysfs-root DIR]"
            " COMMAND ..."
        )
        return parser

    def run(self, argv: Sequence[str]) -> int:
        """Run the application.

        :returns: the exit code of the command, 3 for errors.
        """
        return arguments.run_to_exit_code(lambda: self._run(argv))

    def _run(self, argv: Sequence[str]) -> int:
        self.options = self.parser.parse_args(argv)
        name, *others = self.options.command
        return self._run_command(name, others)

    def _run_command(self, name: str, argv: Sequence[str]) -> int:
        known = list_commands()
        if name == "help":
            name, argv = (*argv, "")[0], ["--help"]
            if not name:
                return self.run(argv)
        if name not in known:
            self.stderr.write(
                f"{self.NAME}: '{printable.join_lines(name)}' is no command;"
                f" commands are {', '.join(sorted(known))}\n"
            )
            return EXIT_BAD_INPUT
        command = known[name].load()(self)
        parser = command.get_parser(f"{self.NAME} {name}")
        return command.run(parser.parse_args(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-host``."""
    given = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return HostApp().run(given or ["--help"])
