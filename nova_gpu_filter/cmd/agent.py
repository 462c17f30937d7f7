# SPDX-License-Identifier: Apache-2.0

"""The command ``nova-gpu-agent``: the daemon, and what people ask of it."""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import datetime
from importlib import metadata
import logging
import os
import pathlib
import sys
from typing import Any
from typing import Final

from nova_gpu_filter import exception
from nova_gpu_filter import systemd
from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.agent import socket_client
from nova_gpu_filter.agent import states
from nova_gpu_filter.cmd import arguments
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.host.checks import conf_agent

NAME: Final = "nova-gpu-agent"

_PROBLEM_COLUMNS: Final = ("Problem", "Partition", "Server", "Reason")
_COLUMNS: Final = ("Device", "State", "Reason", "Since", "By", "Server")


def _format_time(seconds: float | None) -> str:
    """Write a time, in seconds since 1970, as the agent's tables have it."""
    if seconds is None:
        return ""
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


_PARTITION: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "Partition": lambda one: one["partition"],
    "Active": lambda one: one["active"],
    "Server": lambda one: one["server"] or "",
    "Phase": lambda one: one["phase"] or "",
    "Since": lambda one: _format_time(one["since"]),
    "Devices": lambda one: " ".join(one["devices"]),
    "Module Ids": lambda one: " ".join(map(str, one["modules"])),
}
"""The columns of a fabric partition."""


def _make_row(device: dict[str, Any]) -> tuple[Any, ...]:
    return (
        device["device"],
        device["state"],
        device["reason"],
        _format_time(device["since"]),
        device["by"],
        device["server"] or "",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "device", metavar="DEVICE", help="PCI address: 0000:85:00.0"
    )


class List(command.Lister):
    """List the devices that are managed, and why each is as it is.

    The exit code is 0 if all devices are known to be as listed, and 1 if the
    agent cannot read Placement, libvirt or the devices at the moment.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--state",
            metavar="STATE",
            action="append",
            choices=[state.value for state in states.State],
            help="only devices in this state: %(choices)s; can be repeated",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the devices, and what keeps the agent from its work."""
        super().run(parsed_args)
        if not self._blind:
            return 0
        self.app.warn(f"nothing is changed: {self._blind}")
        return 1

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """Ask for the devices."""
        answer = self.app.ask(command="list")
        self._blind = answer["blind"]
        return _COLUMNS, [
            _make_row(device)
            for device in answer["devices"]
            if not parsed_args.state or device["state"] in parsed_args.state
        ]


class Show(command.Lister):
    """Show what has happened to a device, the last first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_device(parser)
        parser.add_argument(
            "--limit",
            metavar="N",
            type=arguments.make_whole(1),
            default=20,
            help="the last N changes; default %(default)s",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """Print the changes."""
        answer = self.app.ask(command="show", device=parsed_args.device)
        return _COLUMNS, list(map(_make_row, answer["history"]))[
            : parsed_args.limit
        ]


class _Change(command.ShowOne):
    """A command that changes the state of a device."""

    command: str

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_device(parser)
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            help="why; it is listed and kept",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """Ask for the change, and print the device."""
        answer = self.app.ask(
            command=self.command,
            device=parsed_args.device,
            reason=parsed_args.reason,
        )
        return _COLUMNS, _make_row(answer["devices"][0])


class Quarantine(_Change):
    """Give a device to no server any more.

    The server that has it goes on. To say it twice changes nothing.
    """

    command = "quarantine"


class Release(_Change):
    """End the quarantine of a device: it is cleaned, checked, and offered.

    To say it twice changes nothing. A failed check quarantines it again.
    """

    command = "release"


class Clean(_Change):
    """Clean and check a device that no server has, at once."""

    command = "clean"


class Unit(command.Command):
    """Print the unit of systemd that runs the daemon."""

    def take_action(self, _parsed_args: argparse.Namespace) -> None:
        """Print the file."""
        self.app.stdout.write(systemd.read_unit(systemd.AGENT))


class FabricList(command.Lister):
    """List the fabric partitions: which are active, and for which server."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
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
        return list(_PARTITION), [
            [read(one) for read in _PARTITION.values()]
            for one in answer["partitions"]
            if one["active"] or one["server"] or not parsed_args.active
        ]


class FabricAudit(command.Lister):
    """Compare libvirt, Placement, the ledger and Fabric Manager.

    The exit code is 0 if they agree, 1 if Placement cannot be read and the
    others agree, and 2 if a partition is leaked, missing, or of two servers.
    """

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print what does not agree."""
        code = super().run(parsed_args)
        if not self._is_placement_read:
            self.app.warn("Placement cannot be read, and is not compared")
        return code

    def take_action(self, _parsed_args: argparse.Namespace) -> Any:
        """Ask for what does not agree."""
        answer = self.app.ask(command="fabric-audit")
        self._is_placement_read = answer["placement"]
        problems = answer["problems"]
        if problems:
            self.exit_code = 2
        elif not self._is_placement_read:
            self.exit_code = 1
        return _PROBLEM_COLUMNS, [
            (
                one["problem"],
                "" if one["partition"] is None else one["partition"],
                one["server"] or "",
                one["text"],
            )
            for one in problems
        ]


class FabricHook(command.Command):
    """Print the hook of libvirt, for /etc/libvirt/hooks/qemu.d."""

    def take_action(self, _parsed_args: argparse.Namespace) -> None:
        """Print the file."""
        text = pathlib.Path(libvirt_hook.__file__).read_text("utf-8")
        self.app.stdout.write(text)


_COMMANDS: Final[dict[str, type[command.Command]]] = {
    "list": List,
    "show": Show,
    "quarantine": Quarantine,
    "release": Release,
    "clean": Clean,
    "unit": Unit,
    "fabric list": FabricList,
    "fabric audit": FabricAudit,
    "fabric hook": FabricHook,
}


class App(command.App):
    """What the commands need."""

    NAME = NAME

    def __init__(self, socket: str) -> None:
        """Nothing is asked yet."""
        super().__init__()
        self._socket = socket

    def ask(self, command: str, **request: Any) -> socket_client.Answer:
        """Ask the daemon."""
        return socket_client.ask(self._socket, command, **request)


def _build_parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog=NAME,
        usage=f"{NAME} [-h] [--version] [--socket PATH] COMMAND ...",
        description="Clean and check the devices of a compute node between"
        " two servers, and keep those that are not well from servers."
        " 'COMMAND --help' explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(
            f"  {name:<12} {(each.__doc__ or '').partition(chr(10))[0]}"
            for name, each in _COMMANDS.items()
        )
        + "\n  run          Run the daemon; systemd does that.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {metadata.version('nova-gpu-filter')}",
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=os.environ.get("NOVA_GPU_AGENT_SOCKET", conf_agent.SOCKET),
        help="where the daemon listens; default %(default)s",
    )
    parser.add_argument(
        "command",
        metavar="COMMAND",
        choices=(
            "run",
            *dict.fromkeys(name.partition(" ")[0] for name in _COMMANDS),
        ),
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "arguments",
        metavar="...",
        nargs=argparse.REMAINDER,
        help=argparse.SUPPRESS,
    )
    return parser


def _run_daemon(prog: str, argv: Sequence[str]) -> int:
    # Four fifths of what a command would import that only asks the daemon.
    from nova_gpu_filter.agent import daemon

    parser = arguments.Parser(prog=prog, description="Run the daemon.")
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        action="append",
        help="nova.conf of this compute node, for [placement] and"
        " [gpu_agent]; a directory stands for its .conf files; can be"
        f" repeated (default: {daemon.DEFAULT_NOVA_CONF})",
    )
    parser.add_argument(
        "--debug", action="store_true", help="log every step, too"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.INFO,
        # The journal has the time.
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if not args.debug:
        # It warns at each attempt of what we tell once.
        logging.getLogger("keystoneauth").setLevel(logging.ERROR)
    daemon.run(args.config_file or [daemon.DEFAULT_NOVA_CONF])
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-gpu-agent``.

    :returns: 0; 1 where the daemon cannot do its work at the moment; 2 where
        an audit finds something; 3 for wrong usage, and what was refused.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    return arguments.run_to_exit_code(lambda: _run(given or ["--help"]))


def _run(argv: Sequence[str]) -> int:
    parser = _build_parser()
    args = parser.parse_args(argv)
    if args.command == "fabric":
        subcommands = [
            name.partition(" ")[2]
            for name in _COMMANDS
            if name.startswith("fabric ")
        ]
        if not args.arguments or args.arguments[0] not in subcommands:
            parser.error(f"'fabric' needs one of {', '.join(subcommands)}")
        args.command += f" {args.arguments.pop(0)}"
    prog = f"{NAME} {args.command}"
    app = App(args.socket)
    try:
        if args.command == "run":
            return _run_daemon(prog, args.arguments)
        each = _COMMANDS[args.command](app)
        return each.run(each.get_parser(prog).parse_args(args.arguments))
    except exception.GpuFilterError as error:
        app.warn(str(error))
        return arguments.EXIT_BAD_INPUT
