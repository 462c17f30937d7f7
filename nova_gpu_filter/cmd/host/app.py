# SPDX-License-Identifier: Apache-2.0

"""The application: global options, and exit codes that can be relied on."""

import argparse
from collections.abc import Sequence
from importlib import metadata
import inspect
import io
import sys
import traceback
from typing import Any

from nova_gpu_filter import exception
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.cmd.host import command

NAMESPACE = "nova_gpu_filter.host"
"""The entry points of the commands, by their names."""


class _Help(argparse.Action):
    """Print the help, with the commands, which are loaded for it only."""

    def __call__(self, parser: Any, *_arguments: Any, **_named: Any) -> None:
        summaries = []
        for name, entry_point in sorted(list_commands().items()):
            text = inspect.getdoc(entry_point.load()) or ""
            summary = text.partition("\n")[0].rstrip(".")
            summaries.append(f"  {name:<10} {summary}")
        parser.epilog = "\n".join(("commands:", *summaries))
        parser.print_help()
        parser.exit()


def list_commands() -> dict[str, metadata.EntryPoint]:
    """List the subcommands, keyed by name."""
    return {each.name: each for each in metadata.entry_points(group=NAMESPACE)}


class HostApp(command.App):
    """The program: its options, and what becomes of errors."""

    NAME = "nova-gpu-host"

    def __init__(self) -> None:
        super().__init__()
        self._parser = self._make_parser()

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
        options = self._parser.parse_args(argv)
        name, *others = options.command
        if name == "help":
            if not others:
                return self._run(["--help"])
            name, others = others[0], ["--help"]
        known = list_commands()
        if name not in known:
            self.warn(
                f"'{name}' is no command; commands are"
                f" {', '.join(sorted(known))}"
            )
            return arguments.EXIT_BAD_INPUT
        each = known[name].load()(self)
        # Given after the command, it comes before the global one.
        given = argparse.Namespace(sysfs_root=options.sysfs_root)
        parser = each.get_parser(f"{self.NAME} {name}")
        try:
            result: int = each.run(parser.parse_args(others, given))
        except BrokenPipeError:
            raise
        except Exception as error:
            if options.debug:
                traceback.print_exc(file=self.stderr)
            self.warn(_describe(error))
            return arguments.EXIT_BAD_INPUT
        return result


def _describe(error: Exception) -> str:
    """Say in one line what ended a command."""
    if isinstance(error, exception.GpuFilterError):
        return str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return (
        f"unexpected error: {error!r}; run with --debug for the traceback, and"
        " report it"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-host``."""
    given = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return HostApp().run(given or ["--help"])
