# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu drift``."""

import argparse
from collections.abc import Iterable
import logging

from osc_lib.command import command

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import drift
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.osc import base

LOG = logging.getLogger(__name__)


class ListDrift(command.Lister, base.GpuCommand):
    """List what Placement, Nova, flavors and aliases disagree on.

    An empty list is a good one. All servers are read, and a request is
    needed for each server with devices. Compute nodes are compared by
    what they report, since no API shows [pci]device_spec or Nova's own PCI
    devices.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_alias_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        known = base.read_aliases(parsed_args)
        if not known.by_name:
            LOG.warning(
                "%s: flavors and aliases are not compared; give --nova-conf"
                " <file> or --alias <json>",
                known.source,
            )
        return ("Kind", "Subject", "Finding"), [
            (finding.kind.value, finding.subject, finding.text)
            for finding in drift.find(self._read(known))
        ]

    def _read(self, known: known_aliases.Known) -> drift.Cloud:
        hosts = self.read_hosts()
        servers, owners, held = self.read_servers_and_holders(hosts)
        return drift.Cloud(
            hosts=hosts,
            owners=owners,
            servers=servers,
            flavors=compute.read_flavors(self.services.compute),
            hypervisors=_read_hypervisors(self.services.compute, hosts),
            holders=held,
            totals=provider_trees.read_totals(
                self.services.placement,
                [
                    device
                    for host in hosts
                    for device in host.devices
                    if drift.is_overused(device)
                ],
            ),
            aliases=known.by_name,
            alias_source=known.source,
        )


def _read_hypervisors(get: api.Get, hosts: Iterable[model.Host]) -> set[str]:
    """Read which compute nodes Nova knows; with a cell down, it cannot say."""
    try:
        return compute.read_hypervisors(get)
    except errors.Failed as exc:
        if not any(model.Obstacle.CELL_DOWN in h.obstacles for h in hosts):
            raise
        LOG.warning("Compute nodes are not compared: %s", exc)
        return {host.uuid for host in hosts}
