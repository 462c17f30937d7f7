# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu explain``."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import Final

from osc_lib.command import command

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import explain
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.osc import aliases
from nova_gpu_filter.osc import base

_MOST_OWNED: Final = 32
"""Hosts of which owners are asked for, unless one is named: it costs requests
for every server on them."""


class Explain(command.Lister, base.GpuCommand):
    """Explain for each host why a server fits on it, or why not.

    The hosts nearest to a fit come first. Blocked By names the devices that
    are not free, and the servers that have them; each entry of Would Fit is a
    change that is enough on its own. What to change first is said on standard
    error. Works before a server is started, and after it has failed.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options."""
        parser = super().get_parser(prog_name)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--flavor",
            metavar="<flavor>",
            help="a server of this flavor (name or id)",
        )
        what.add_argument(
            "--server",
            metavar="<server>",
            help="another server like this one, which may have failed (name or"
            " UUID)",
        )
        parser.add_argument(
            "--image",
            metavar="<image>",
            help="with the traits that this image requires (name or id)",
        )
        parser.add_argument("--host", metavar="<host>", help="only this host")
        aliases.add_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """Explain."""
        known = aliases.read(parsed_args)
        image = (
            compute.find_image(self.services.image, parsed_args.image)
            if parsed_args.image
            else {}
        )
        if parsed_args.server:
            server = compute.find_server(
                self.services.compute, parsed_args.server
            )
            self._tell(server)
            flavor = server.flavor
        else:
            flavor = compute.find_flavor(
                self.services.compute, parsed_args.flavor
            )
        wanted = demand.of(flavor, known.by_name, known.source, image)
        hosts = self.read_hosts(parsed_args.host)
        verdicts = self._verdicts(hosts, wanted)
        self.app.stderr.write(
            f"{flavor.name}: {explain.summarize(verdicts)}\n"
        )
        return ("Host", "Servers", "Reason", "Blocked By", "Would Fit"), [
            (
                verdict.host,
                verdict.servers,
                base.Lines(list(verdict.reasons)),
                base.Lines(list(verdict.blockers)),
                base.Lines([cure.text for cure in verdict.cures]),
            )
            for verdict in verdicts
        ]

    def _tell(self, server: model.Server) -> None:
        """Say what became of the server."""
        line = f"{server.name}: {server.status}"
        if server.host is not None:
            line += f" on {server.host}"
            owned = ownership.of_consumer(self.services.placement, server.uuid)
            addresses = [
                device.address
                for host in self.hosts_named(server.host)
                for device in host.devices
                if device.uuid in owned
            ]
            line += f" with {' '.join(addresses) or 'no device'}"
        if server.fault is not None:
            line += f": {' '.join(server.fault.split())}"
        self.app.stderr.write(f"{line}\n")

    def _verdicts(
        self, hosts: Sequence[model.Host], wanted: demand.Demand
    ) -> list[explain.Verdict]:
        asked = sorted(
            (host for host in hosts if not capacity.how_many(host, wanted)),
            key=lambda host: (-_near(host, wanted), host.name),
        )[:_MOST_OWNED]
        owners = self.read_owners(asked)

        def owners_of(device: model.Device) -> list[tuple[str, int]]:
            return [
                (owners.name(owner), owner.amount)
                for owner in owners.of(device)
            ]

        verdicts = [explain.of(host, wanted, owners_of) for host in hosts]
        return sorted(
            verdicts,
            key=lambda verdict: (
                -verdict.servers,
                min((cure.rank for cure in verdict.cures), default=99),
                verdict.host,
            ),
        )


def _near(host: model.Host, wanted: demand.Demand) -> int:
    """Count the devices that the flavor means, the free ones more."""
    found = 0
    for asked in wanted.devices:
        devices = host.devices_of(
            asked.alias.resource_class, asked.alias.traits
        )
        found += len(devices) + len(host.devices) * capacity.units(devices)
    return found
