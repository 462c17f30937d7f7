# SPDX-License-Identifier: Apache-2.0

"""The application: global options, and exit codes that can be relied on."""

import argparse
from collections.abc import Sequence
import io
import sys
from typing import NoReturn

from cliff import app
from cliff import commandmanager
import pbr.version

NAMESPACE = "nova_gpu_filter.host"

EXIT_BAD_INPUT = 3
"""Wrong usage, or input that cannot be used. 1 and 2 are answers of
``check``, so neither argparse nor cliff may use them for errors."""


def tell_usage_in_one_line(parser: argparse.ArgumentParser) -> None:
    """Have a parser print its error and where to look, and exit with 3."""

    def error(message: str) -> NoReturn:
        parser.exit(
            EXIT_BAD_INPUT,
            f"{parser.prog}: {message}; see '{parser.prog} --help'\n",
        )

    parser.error = error  # type: ignore[method-assign]


class HostApp(app.App):
    """A cliff application that keeps 1 and 2 for ``check``."""

    NAME = "nova-gpu-host"

    def __init__(self, **streams) -> None:
        super().__init__(
            description="Find the GPUs of a compute node, check that they can"
            " be passed through, and write the nova.conf. Reading needs no"
            " root.",
            version=pbr.version.VersionInfo(
                "nova-gpu-filter"
            ).version_string(),
            command_manager=commandmanager.CommandManager(NAMESPACE),
            deferred_help=True,
            **streams,
        )
        self.command_has_run = False

    def build_option_parser(self, description, version, argparse_kwargs=None):
        """Add the root of the files, which every command reads."""
        parser = super().build_option_parser(
            description, version, argparse_kwargs
        )
        parser.add_argument(
            "--sysfs-root",
            metavar="DIR",
            default="/",
            help="read the host's files (/sys, /proc, /etc ...) below DIR,"
            " for example where a capture was unpacked; default /",
        )
        tell_usage_in_one_line(parser)
        return parser

    def prepare_to_run_command(self, cmd) -> None:
        """Note that what now fails is the command."""
        self.command_has_run = cmd.__class__.__module__.startswith(
            "nova_gpu_filter."
        )

    def interact(self) -> None:
        """Print the help: there is no shell of this application."""
        self.parser.print_help(self.stderr)

    def run_subcommand(self, argv):
        """Run a command; an unknown one is wrong usage."""
        try:
            self.command_manager.find_command(argv)
        except ValueError:
            known = ", ".join(
                sorted(
                    name
                    for name, _ in self.command_manager
                    if name not in ("complete",)
                )
            )
            self.stderr.write(
                f"{self.NAME}: '{argv[0]}' is no command; commands are"
                f" {known}\n"
            )
            return EXIT_BAD_INPUT
        return super().run_subcommand(argv)

    def run(self, argv: Sequence[str]) -> int:
        """Run the application.

        :returns: the exit code of the command, 3 for errors.
        """
        try:
            result = super().run(list(argv))
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
        if result == 1 and not self.command_has_run:
            return EXIT_BAD_INPUT
        return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-host``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return HostApp().run(arguments or ["--help"])
