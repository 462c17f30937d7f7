# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu pool ...``."""

import argparse
from collections.abc import Sequence
from typing import Any

from osc_lib.command import command

from nova_gpu_filter.fleet import remote_pools
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.osc import base


def _read_total(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 2**31 - 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of GPUs")
    return int(text)


def _read_class(text: str) -> str:
    try:
        name = names.check_resource_class(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    if not name.startswith("CUSTOM_"):
        raise argparse.ArgumentTypeError(
            f"{name} is a class of Nova's own; name another"
        )
    return name


class _PoolCommand(base.GpuCommand):
    """A command about one pool."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the name of the pool."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "pool",
            type=base.read_name,
            metavar="<pool>",
            help="name of the pool",
        )
        return parser


class CreatePool(_PoolCommand):
    """Make a pool of remote GPUs, or give one another size.

    It is a sharing provider in Placement, for API remoting: a library in the
    guest uses a GPU in the network. Placement counts who may; how the guest
    gets there is up to you. Then add the hosts whose servers may use it, and
    ask for it with resources:CUSTOM_REMOTE_GPU=1 in a flavor.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--gpus",
            type=_read_total,
            required=True,
            metavar="<number>",
            help="GPUs of the pool, of which a server has one for each unit"
            " that it asks for",
        )
        parser.add_argument(
            "--resource-class",
            type=_read_class,
            default=remote_pools.RESOURCE_CLASS,
            metavar="<class>",
            help="resource class that flavors ask for"
            f" (default: {remote_pools.RESOURCE_CLASS})",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Make the pool."""
        remote_pools.create(
            self.services,
            parsed_args.pool,
            parsed_args.gpus,
            parsed_args.resource_class,
        )


class _ChangeHosts(_PoolCommand):
    """Changes whose servers may use a pool."""

    are_in: bool

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "host",
            nargs="+",
            type=base.read_name,
            metavar="<host>",
            help="name of a compute node",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Change the hosts, after all of them were found."""
        remote_pools.set_hosts(
            self.services, parsed_args.pool, parsed_args.host, self.are_in
        )


class AddHost(_ChangeHosts):
    """Let the servers of hosts use a pool of remote GPUs.

    To say it twice changes nothing.
    """

    are_in = True


class RemoveHost(_ChangeHosts):
    """Let no further servers of hosts use a pool of remote GPUs.

    Servers that use it go on. To say it twice changes nothing.
    """

    are_in = False


class ShowPool(command.ShowOne, _PoolCommand):
    """Show a pool of remote GPUs: its size, its hosts, and who uses it."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        """Read the pool."""
        pool = remote_pools.read(self.services.placement, parsed_args.pool)
        return (
            "name",
            "provider",
            "resource_class",
            "gpus",
            "used",
            "free",
            "hosts",
            "servers",
        ), (
            pool.name,
            pool.uuid,
            pool.resource_class,
            pool.total,
            pool.used,
            pool.total - pool.used,
            base.Lines(list(pool.hosts)),
            base.Numbers(dict(pool.servers)),
        )


class DeletePool(_PoolCommand):
    """Delete a pool of remote GPUs that no server uses."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete the pool."""
        remote_pools.delete(self.services, parsed_args.pool)
