# SPDX-License-Identifier: Apache-2.0

"""The commands ``nova-gpu-agent fabric``."""

import argparse
import datetime
import pathlib
from typing import Any
from typing import Final

from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.cmd.host import command

_COLUMNS: Final = (
    "Partition",
    "Active",
    "Server",
    "Phase",
    "Since",
    "Devices",
    "Module Ids",
)
_PROBLEM_COLUMNS: Final = ("Problem", "Partition", "Server", "Reason")


def format_time(seconds: float | None) -> str:
    """Write a time, in seconds since 1970, as the agent's tables have it."""
    if seconds is None:
        return ""
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _make_row(partition: dict[str, Any]) -> tuple[Any, ...]:
    return (
        partition["partition"],
        partition["active"],
        partition["server"] or "",
        partition["phase"] or "",
        format_time(partition["since"]),
        " ".join(partition["devices"]),
        " ".join(map(str, partition["modules"])),
    )


class List(command.Lister):
    """List the fabric partitions: which are active, and for which server."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the option."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--active",
            action="store_true",
            help="only partitions that are active, or that a server owns",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """Print the partitions."""
        answer = self.app.ask(command="fabric-list")
        return _COLUMNS, [
            _make_row(one)
            for one in answer["partitions"]
            if one["active"] or one["server"] or not parsed_args.active
        ]


class Audit(command.Lister):
    """Compare libvirt, Placement, the ledger and Fabric Manager.

    The exit code is 0 if they agree, 1 if Placement cannot be read and the
    others agree, and 2 if a partition is leaked, missing, or of two servers.
    """

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print what does not agree."""
        answer = self.app.ask(command="fabric-audit")
        rows = [
            (
                one["problem"],
                "" if one["partition"] is None else one["partition"],
                one["server"] or "",
                one["text"],
            )
            for one in answer["problems"]
        ]
        self.produce_output(parsed_args, _PROBLEM_COLUMNS, rows)
        if not answer["placement"]:
            self.app.warn("Placement cannot be read, and is not compared")
        if rows:
            return 2
        return 0 if answer["placement"] else 1

    def take_action(self, _parsed_args: argparse.Namespace) -> Any:
        """Do nothing: :meth:`run` has done it."""


class Hook(command.Command):
    """Print the hook of libvirt, for /etc/libvirt/hooks/qemu.d."""

    def run(self, _parsed_args: argparse.Namespace) -> int:
        """Print the file."""
        text = pathlib.Path(libvirt_hook.__file__).read_text("utf-8")
        self.app.stdout.write(text)
        return 0

    def take_action(self, _parsed_args: argparse.Namespace) -> Any:
        """Do nothing: :meth:`run` has done it."""
