# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu topology show``."""

import argparse
from typing import Final

from nova_gpu_filter.drawing import words
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import layout
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import svg
from nova_gpu_filter.osc import base
from nova_gpu_filter.topology import drawing
from nova_gpu_filter.topology.topology import Topology

_LONGEST: Final = 40
"""Characters of a name, so that a row fits a terminal."""


class ShowTopology(base.GpuCommand):
    """Draw the devices of a host, how they are linked, and who has them.

    In the terminal, a row is a device and a column a link group or a fabric
    partition. As SVG, frames are NUMA nodes and PCIe switches, and colours
    are owners.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "host",
            type=base.read_name,
            metavar="<host>",
            help="hypervisor hostname",
        )
        files = parser.add_mutually_exclusive_group()
        files.add_argument(
            "--svg",
            type=base.read_name,
            metavar="<file>",
            help="write an SVG picture to this file",
        )
        files.add_argument(
            "--html",
            type=base.read_name,
            metavar="<file>",
            help="write a web page to this file",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Draw the host."""
        (host,) = self.read_hosts(parsed_args.host)
        held = self.read_holders([host])
        owners = {
            device.uuid: _owner_of(device, held)
            for device in host.devices
            if held.owners_of(device)
        }
        if parsed_args.svg:
            _write(parsed_args.svg, svg.draw(host, owners))
        elif parsed_args.html:
            _write(parsed_args.html, svg.html(host, owners))
        else:
            self.app.stdout.write(_text(host, owners) + "\n")


def _owner_of(device: model.Device, held: holders.Holders) -> svg.Owner:
    keys = [held.holder(o.consumer).key for o in held.owners_of(device)]
    return svg.Owner(", ".join(held.labels(device)), ",".join(sorted(keys)))


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise errors.NotWritten(path=path, error=exc.strerror) from exc


def _text(host: model.Host, owners: svg.Owners) -> str:
    found = linked.LinkedDevices.of(host.devices)
    topology = Topology.from_matrix(
        found.topology.links,
        found.topology.partitions,
        layout.node_numbers(host.devices),
    )
    models = [words.shorten(device.model, _LONGEST) for device in host.devices]
    widest = max(map(len, models))
    drawn = drawing.draw(
        host.name if not host.obstacles else f"{host.name} ({host.status})",
        topology,
        [
            f"{device.address}  {name:<{widest}}"
            for device, name in zip(host.devices, models, strict=True)
        ],
        [_owner(device, owners) for device in host.devices],
    )
    if found.problem is not None:
        drawn += f"\nLinks are not known: {found.problem}"
    return drawn


def _owner(device: model.Device, owners: svg.Owners) -> str | None:
    if device.uuid in owners:
        return words.shorten(owners[device.uuid].label, _LONGEST)
    return None if device.is_free else device.state.value
