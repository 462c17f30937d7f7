# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu capacity``."""

import argparse
from collections.abc import Collection

from osc_lib.command import command

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.osc import base


class ShowCapacity(command.Lister, base.GpuCommand):
    """Count how many more servers of each flavor fit now.

    Servers is the number if nothing else is started; In Mix the number when
    all listed flavors take turns, one server each, the largest first. Counted
    are vCPUs, memory and disk of the compute nodes, traits, devices and their
    links. What Placement does not know is left out: NUMA cells, huge pages,
    aggregates, server groups and quotas.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(
            parser,
            "--flavor",
            "only this flavor (name or id); can be given again (default: all"
            " that ask for devices)",
            action="append",
            default=[],
        )
        parser.add_argument(
            "--by-host",
            action="store_true",
            help="a line for each host on which a flavor fits",
        )
        base.add_alias_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        known = base.read_aliases(parsed_args)
        flavors = compute.read_flavors(self.services.compute)
        hosts = self.read_hosts()
        mediated = frozenset[str]().union(*(h.mediated_classes for h in hosts))
        demands = self._calculate_demands(
            flavors, parsed_args.flavor, known, mediated
        )
        found = capacity.count_servers(hosts, demands)
        if parsed_args.by_host:
            return ("Flavor", "Host", "Servers"), [
                (fitting.wanted.name, host, number)
                for fitting in found
                for host, number in fitting.by_host
            ]
        return ("Flavor", "Devices", "Link", "Servers", "In Mix", "Hosts"), [
            (
                fitting.wanted.name,
                format_devices(fitting.wanted, mediated),
                format_link(fitting.wanted),
                fitting.servers,
                fitting.in_mix,
                len(fitting.by_host),
            )
            for fitting in found
        ]

    @staticmethod
    def _calculate_demands(
        flavors: list[model.Flavor],
        names: list[str],
        known: known_aliases.Known,
        mediated: Collection[str],
    ) -> list[demand.Demand]:
        if names:
            return [
                demand.calculate(
                    compute.choose_flavor(flavors, name),
                    known.by_name,
                    known.source,
                )
                for name in dict.fromkeys(names)
            ]
        chosen = known_aliases.choose_flavors(flavors, mediated)
        if not chosen:
            raise errors.Unknown(
                kind="flavor with",
                name=extra_specs.ALIAS_KEY,
                hint="; name others with --flavor",
            )
        return known_aliases.list_demands(chosen, known)


def format_devices(wanted: demand.Demand, mediated: Collection[str]) -> str:
    """Write the devices as the extra spec does: ``h100:4,cx7:4``; mediated
    ones by resource class: ``VGPU:1``.

    :param mediated: resource classes of mediated devices.
    """
    return ",".join(
        [
            *(f"{asked.alias.name}:{asked.count}" for asked in wanted.devices),
            *(
                f"{name}:{number}"
                for name, number in sorted(wanted.total.items())
                if name in mediated
            ),
        ]
    )


def format_link(wanted: demand.Demand) -> str:
    """Write the link policy: ``nvlink``, ``nvlink preferred`` or nothing."""
    policy = wanted.link_policy
    if policy is None:
        return ""
    return policy.link.value + ("" if policy.required else " preferred")
