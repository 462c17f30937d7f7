# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu pool ...``."""

import argparse

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
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        base.add_name(parser, "pool", "name of the pool")
        return parser


class CreatePool(_PoolCommand):
    """Make a pool of remote GPUs, or give one another size.

    It is a sharing provider in Placement, for API remoting: a library in the
    guest uses a GPU in the network. Placement counts who may; how the guest
    gets there is up to you. Then add the hosts whose servers may use it, and
    ask for it with resources:CUSTOM_REMOTE_GPU=1 in a flavor.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
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
        parser = super().get_parser(prog_name)
        base.add_name(parser, "host", "name of a compute node", nargs="+")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
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

    def take_action(self, parsed_args: argparse.Namespace) -> base.Shown:
        pool = remote_pools.read(self.services.placement, parsed_args.pool)
        shown = {
            "name": pool.name,
            "provider": pool.uuid,
            "resource_class": pool.resource_class,
            "gpus": pool.total,
            "used": pool.used,
            "free": pool.total - pool.used,
            "hosts": base.Lines(list(pool.hosts)),
            "servers": base.Numbers(dict(pool.servers)),
        }
        return tuple(shown), tuple(shown.values())


class DeletePool(_PoolCommand):
    """Delete a pool of remote GPUs that no server uses."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        remote_pools.delete(self.services, parsed_args.pool)
