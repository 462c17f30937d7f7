# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu explain``."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any
from typing import Final

from osc_lib.command import command

from nova_gpu_filter import printable
from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import explain
from nova_gpu_filter.fleet import flavor_resources
from nova_gpu_filter.fleet import giving_back
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import identity
from nova_gpu_filter.fleet import image_needs
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import moving
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import placing
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.fleet import verdict
from nova_gpu_filter.osc import base
from nova_gpu_filter.osc import scheduler_rules

LOG = logging.getLogger(__name__)

_COUNTS_ALIASES: Final = (2, 104)
"""Nova from 34 on counts devices of aliases for a quota
(``request_spec_for_limits`` in nova/scheduler/utils.py)."""
_MOST_OWNED: Final = 32
"""Hosts of which owners are asked for, unless one is named: it costs requests
for every server on them."""


class Explain(command.Lister, base.GpuCommand):
    """Explain for each host why a server fits on it, or why not.

    The hosts nearest to a fit come first. Reason is what keeps the server out,
    Blocked By who would have to give something back; each entry of Would Fit
    is a change that is enough on its own. All of these were tried in a copy of
    the host. What to change first is said on standard error. Works before a
    server is started, after it has failed, and, with --migrate, before it is
    moved.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        what = parser.add_mutually_exclusive_group(required=True)
        base.add_name(what, "--flavor", "a server of this flavor (name or id)")
        base.add_name(
            what,
            "--server",
            "another server like this one, which may have failed (name or"
            " UUID)",
        )
        base.add_name(
            parser,
            "--image",
            "with the traits that this image requires (name or id)",
        )
        base.add_name(
            parser,
            "--project",
            "of this project (name or UUID): its quota, and aggregates that"
            " are kept for projects, count (default: that of the server, else"
            " your own)",
        )
        base.add_name(
            parser,
            "--availability-zone",
            "in this availability zone (default: the one that a failed"
            " server asked for, else any)",
            metavar="<zone>",
        )
        base.add_name(parser, "--host", "only this host")
        parser.add_argument(
            "--migrate",
            choices=[way.value for way in moving.Way],
            help="whether the server itself, not another one, could go to"
            " another host: while it runs, or stopped; with --server only",
        )
        base.add_alias_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        if parsed_args.migrate and not parsed_args.server:
            raise errors.NotTogether(option="--migrate", needed="--server")
        known = base.read_aliases(parsed_args)
        nova = self.services.compute
        with api.Together() as together:
            hosts = together.ask(lambda: self.read_hosts(parsed_args.host))
            aggregates = together.ask(lambda: placing.read_aggregates(nova))
            rules, quota_rules = scheduler_rules.read(known.paths)
            image: Mapping[str, Any] = {}
            if parsed_args.image:
                image = compute.find_image(
                    self.services.image, parsed_args.image
                )
            if rules.filters_images:
                image = image_needs.require_traits(image)
            server = None
            if parsed_args.server:
                server = compute.find_server(
                    self.services.compute_with_images
                    if parsed_args.migrate
                    else nova,
                    parsed_args.server,
                )
                flavor = server.flavor
                if server.is_in_down_cell:
                    raise errors.CellDown(server=server.name)
            else:
                flavor = compute.find_flavor(nova, parsed_args.flavor)
            if parsed_args.availability_zone:
                compute.check_zone(nova, parsed_args.availability_zone)
            wanted = demand.calculate(
                flavor, known.by_name, known.source, image
            )
            if server is not None:
                self._report(server)
            for problem in flavor_resources.find_without_alias(
                flavor.extra_specs, wanted, hosts()
            ):
                line = f"{flavor.name}: {problem.key} {problem.text}"
                LOG.warning("%s", printable.join_lines(line))
            request = self._build_request(
                parsed_args, server, flavor, wanted, quota_rules
            )
            of_move: list[verdict.Gate] = []
            found: Sequence[model.Host] = hosts()
            if parsed_args.migrate and server is not None:
                move = self._move(parsed_args.migrate, server, wanted, found)
                of_move = list(moving.find_gates(move))
                request = dataclasses.replace(request, quotas=())
                found = self._list_others(found, server)
            gates = {
                host.uuid: [
                    *of_move,
                    *placing.find_gates(host, request, aggregates(), rules),
                ]
                for host in found
            }
            verdicts = self._explain_hosts(found, wanted, gates)
        summary = verdict.summarize(verdicts)
        self.app.stderr.write(f"{flavor.name}: {summary}\n")
        return ("Host", "Servers", "Reason", "Blocked By", "Would Fit"), [
            (
                reported.host,
                reported.servers,
                base.Lines(list(reported.reasons)),
                base.Lines(list(reported.blockers)),
                base.Lines([cure.text for cure in reported.cures]),
            )
            for reported in verdicts
        ]

    def _move(
        self,
        way: str,
        server: model.Server,
        wanted: demand.Demand,
        hosts: Sequence[model.Host],
    ) -> moving.Move:
        """Say what shall move, and what has to be known beside the answer."""
        source = next((h for h in hosts if h.name == server.host), None)
        if source is None and server.host is not None:
            source = next(iter(self.try_read_hosts(server.host)), None)
        move = moving.Move(server, wanted, moving.Way(way), source)
        if limits := moving.describe_limits(move):
            self.app.stderr.write(f"{server.name}: {limits}\n")
        return move

    @staticmethod
    def _list_others(
        hosts: Sequence[model.Host], server: model.Server
    ) -> list[model.Host]:
        """List the hosts where a server is not.

        :raises NotMoving: there is none, as where its own was named.
        """
        others = [host for host in hosts if host.name != server.host]
        if not others:
            raise errors.NotMoving(server=server.name, host=server.host)
        return others

    def _report(self, server: model.Server) -> None:
        """Say what became of the server."""
        line = f"{server.name}: {server.status}"
        if server.host is not None:
            line += f" on {server.host}"
            placement = self.services.placement
            owned = ownership.read_consumer(placement, server.uuid)
            addresses = [
                device.address
                for host in self.try_read_hosts(server.host)
                for device in host.devices
                if device.uuid in owned
            ]
            line += f" with {' '.join(addresses) or 'no device'}"
        if server.fault is not None:
            line += f": {' '.join(server.fault.split())}"
        self.app.stderr.write(f"{line}\n")

    def _build_request(
        self,
        parsed_args: argparse.Namespace,
        server: model.Server | None,
        flavor: model.Flavor,
        wanted: demand.Demand,
        quota_rules: quota.Rules,
    ) -> placing.Request:
        """Work out who asks, and what quota that leaves."""
        own = self.services.own_project
        zone = parsed_args.availability_zone
        if parsed_args.project and parsed_args.project not in (own or ()):
            project, name = identity.find_project(
                self.services.identity, parsed_args.project
            )
        elif server is not None and not parsed_args.project:
            project = server.project
            name = self.read_project_names([project])[project]
        elif own is not None:
            project, name = own
        else:
            return placing.Request(wanted, flavor.extra_specs, zone=zone)
        if zone is None and server is not None and server.host is None:
            zone = server.zone
        quotas = tuple(self._find_shortages(wanted, project, quota_rules))
        return placing.Request(
            wanted, flavor.extra_specs, project, name, zone, quotas
        )

    def _find_shortages(
        self, wanted: demand.Demand, project: str, rules: quota.Rules
    ) -> list[quota.Shortage]:
        nova, placement = self.services.compute, self.services.placement
        with api.Together() as together:
            limits = together.ask(self.read_limits)
            legacy = together.ask(lambda: compute.read_quota(nova, project))
            newest = together.ask(
                lambda: compute.read_newest_microversion(nova)
            )
            usages = provider_trees.read_usages(placement, project)
            known: quota.Limits | None = None
            try:
                known = limits()
            except errors.FleetError as exc:
                LOG.debug("Limits are not known: %s", exc)
            version = newest()
            if version is not None:
                counts = version >= _COUNTS_ALIASES
                rules = dataclasses.replace(rules, counts_aliases=counts)
            return quota.find_shortages(
                wanted, project, known, usages, legacy(), rules
            )

    def _explain_hosts(
        self,
        hosts: Sequence[model.Host],
        wanted: demand.Demand,
        gates: Mapping[str, Sequence[verdict.Gate]],
    ) -> list[verdict.Verdict]:
        nova, placement = self.services.compute, self.services.placement
        full = (
            host
            for host in hosts
            if not host_fit.count_fitting(host.without_obstacles(), wanted)
        )
        asked = sorted(
            full, key=lambda host: (-_count_near(host, wanted), host.name)
        )[:_MOST_OWNED]
        of_hosts = giving_back.read_of_hosts(placement, asked, wanted)
        held = self.read_holders(asked)
        others = {c for found in of_hosts.values() for c in found}
        others -= held.consumers
        held = held.with_more(holders.read_holders(nova, others))
        asked_uuids = {host.uuid for host in asked}
        verdicts = [
            explain.explain_host(
                host,
                wanted,
                giving_back.list_holdings(
                    host, held, of_hosts.get(host.uuid, {})
                )
                if host.uuid in asked_uuids
                else [],
                gates[host.uuid],
            )
            for host in hosts
        ]
        return sorted(verdicts, key=verdict.sort_key)


def _count_near(host: model.Host, wanted: demand.Demand) -> int:
    """Count the devices that the flavor means, the free ones more."""
    found = 0
    for asked in wanted.devices:
        devices = host.list_devices(
            asked.alias.resource_class, asked.alias.traits
        )
        found += len(devices) + len(host.devices) * sum(
            device.amount.free for device in devices
        )
    return found
