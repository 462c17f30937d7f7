# SPDX-License-Identifier: Apache-2.0

"""Command line of the cloud: ``python -m cloud up|down|status``."""

import argparse
from collections.abc import Sequence
import pathlib
import sys
import time

from cloud import emulated
from cloud import errors
from cloud import packages

EPILOG = """
The cloud is in .cloud of the checkout, or in the directory that the
environment variable CLOUD_DIR names. Exit status: 0 if the command did what
it says, 1 if not (and for status, if the cloud is not up), 2 for a usage
error.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status."""
    args = read_arguments(argv)
    try:
        if args.command == "up":
            packages.ensure()
        return _COMMANDS[args.command](args)
    except errors.CloudError as error:
        print(f"cloud: {error}", file=sys.stderr)
        return 1


def _up(args: argparse.Namespace) -> int:
    # Only now, since they need what --help does not.
    from cloud import control
    from cloud import files

    cloud = control.Cloud(report=_say)
    with cloud.state.exclusive():
        # What another command has written since.
        cloud = control.Cloud(report=_say)
        if cloud.is_up:
            _say(f"The cloud in {cloud.state.directory} is up.")
        else:
            begin = time.monotonic()
            _say(f"Starting a cloud in {cloud.state.directory} ...")
            wanted = list_emulated_hosts(args.emulated)
            hosts = dict(args.hosts) or ({} if wanted else control.HOSTS)
            cloud.up(hosts)
            if wanted:
                _say(
                    "An emulated host takes 2 minutes or more; progress is in"
                    f" {cloud.processes.log(emulated.NAME)}"
                )
                try:
                    emulated.start(cloud, wanted)
                except BaseException:
                    cloud.down()
                    raise
            _say(f"Ready after {time.monotonic() - begin:.0f} s.")
    _say("Try:\n")
    for command in (
        emulated.first_commands(cloud)
        if emulated.NAME in cloud.processes.names
        else files.first_commands(cloud.state)
    ):
        _say(f"  {command}")
    _say('\n"make cloud-down" ends it.')
    return 0


def _down(_args: argparse.Namespace) -> int:
    from cloud import control

    cloud = control.Cloud(report=_say)
    if not cloud.state.directory.exists():
        _say("There is no cloud.")
        return 0
    with cloud.state.exclusive():
        cloud = control.Cloud(report=_say)
        cloud.down()
    _say(f"The cloud is down; its logs are in {cloud.state.logs}.")
    return 0


def _status(_args: argparse.Namespace) -> int:
    from cloud import control

    cloud = control.Cloud()
    for name in cloud.processes.names:
        alive = cloud.processes.is_alive(name)
        _say(
            f"{name:24} {'runs' if alive else 'DEAD'}"
            f"  pid {cloud.processes.pid(name)}  {cloud.processes.log(name)}"
        )
    _say("up" if cloud.is_up else "not up")
    return 0 if cloud.is_up else 1


_COMMANDS = {"up": _up, "down": _down, "status": _status}


def _say(line: str) -> None:
    print(line, flush=True)


def _host(text: str) -> tuple[str, pathlib.Path]:
    name, equals, path = text.partition("=")
    if not name or not equals or not pathlib.Path(path).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=FILE with a file that is there"
        )
    return name, pathlib.Path(path)


def list_emulated_hosts(
    given: Sequence[tuple[str, str] | None],
) -> dict[str, str]:
    """Read what was asked for: names of hosts -> kinds of machines."""
    found: dict[str, str] = {}
    for one in given:
        found |= emulated.USUAL if one is None else [one]
    return found


def _emulated(text: str) -> tuple[str, str]:
    name, _, kind = text.partition("=")
    if not name or kind not in emulated.KINDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=MACHINE with a machine of"
            f" {', '.join(emulated.KINDS)}"
        )
    return name, kind


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the process."""
    parser = argparse.ArgumentParser(
        prog="cloud",
        description=(
            "Keystone, Glance, Placement, Neutron, Nova with compute hosts"
            " on Nova's fake libvirt, MariaDB and RabbitMQ, as processes on"
            " 127.0.0.1 with data of their own."
        ),
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cloud, unless it is up")
    up.add_argument(
        "--host",
        dest="hosts",
        metavar="NAME=FILE",
        type=_host,
        action="append",
        default=[],
        help="a compute host with the devices in FILE, the output of"
        " 'nova-gpu-host inventory -f json'; can be repeated; default is"
        " hgx-1 and hgx-2 with 8 H100 each",
    )
    kinds = " or ".join(
        f"{name} ({what})" for name, what in emulated.KINDS.items()
    )
    usual = " and ".join(
        f"{name}={kind}" for name, kind in emulated.USUAL.items()
    )
    up.add_argument(
        "--emulated",
        metavar="NAME=MACHINE",
        nargs="?",
        type=_emulated,
        action="append",
        default=[],
        help="a compute host that is an emulated machine with a real kernel,"
        f" libvirt and nova-gpu-agent; MACHINE is {kinds}; can be repeated;"
        f" alone it is {usual}; needs 2 to 3 GB of memory and some minutes"
        " each",
    )
    commands.add_parser("down", help="end it and remove its data")
    commands.add_parser("status", help="list its processes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
