# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu device``."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from osc_lib.command import command

from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.osc import base
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links

_NODE = f"{links.name(links.NODE).lower()}:"
_UNREADABLE = "cannot be read"


def _links(device: model.Device) -> tuple[str, str]:
    """Return the links of a device, and the number of its NUMA node."""
    try:
        tokens = device.links.split(",") if device.links else []
    except codec.LinkTextError:
        return _UNREADABLE, ""
    nodes = [t.removeprefix(_NODE) for t in tokens if t.startswith(_NODE)]
    others = [token for token in tokens if not token.startswith(_NODE)]
    return ",".join(others), ",".join(nodes)


class ListDevice(command.Lister, base.GpuCommand):
    """List the PCI devices that Placement knows, and what is free of them.

    Who has a device costs a request or two for each server, so it is told
    with --long, --host or --server only. NUMA is the number of a group: the
    devices of one host with the same number are on one NUMA node.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--host",
            metavar="<host>",
            help="only of this host (hypervisor hostname)",
        )
        parser.add_argument(
            "--model",
            metavar="<model>",
            help="only of this model, or of this resource class",
        )
        parser.add_argument(
            "--free",
            action="store_true",
            help="only those of which something is free",
        )
        parser.add_argument(
            "--server",
            metavar="<server>",
            help="only those of this server (name or UUID)",
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="also show owners, resource classes and traits",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """List the devices."""
        found = list(self._chosen(parsed_args))
        with_owners = bool(
            parsed_args.long or parsed_args.host or parsed_args.server
        )
        names = ["Host", "Address", "Model", "NUMA", "Links", "State"]
        owners = None
        if with_owners:
            hosts = {host.uuid: host for host, _ in found}
            owners = self.read_owners(hosts.values())
            names += ["Server", "Project"]
        if parsed_args.long:
            names += ["Resource Class", "Traits", "Provider"]
        return tuple(names), [
            self._row(host, device, owners, parsed_args.long)
            for host, device in found
        ]

    def _chosen(
        self, parsed_args: argparse.Namespace
    ) -> Iterator[tuple[model.Host, model.Device]]:
        of_server = None
        host_name = parsed_args.host
        if parsed_args.server:
            server = compute.find_server(
                self.services.compute, parsed_args.server
            )
            of_server = ownership.of_consumer(
                self.services.placement, server.uuid
            )
            host_name = host_name or server.host
            if not of_server or server.host is None:
                return
        for host in self.read_hosts(host_name):
            for device in host.devices:
                if (
                    (of_server is None or device.uuid in of_server)
                    and (not parsed_args.free or device.is_free)
                    and (
                        parsed_args.model is None
                        or base.is_named(device, parsed_args.model)
                    )
                ):
                    yield host, device

    @staticmethod
    def _row(
        host: model.Host,
        device: model.Device,
        owners: base.Owners | None,
        long: bool,
    ) -> tuple[Any, ...]:
        text, node = _links(device)
        row: list[Any] = [
            host.name,
            device.address,
            device.model,
            node,
            text,
            device.state.value,
        ]
        if owners is not None:
            row += [
                ", ".join(owners.names(device)),
                ", ".join(owners.projects(device)),
            ]
        if long:
            row += [
                device.resource_class,
                base.Words(sorted(device.traits)),
                device.uuid,
            ]
        return tuple(row)


class ShowDevice(command.ShowOne, base.GpuCommand):
    """Show one PCI device: what it is linked to, and who has it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the argument."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "device",
            metavar="<device>",
            help="its resource provider: <host>_<address> or UUID",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Show the device."""
        host, device = self._find(parsed_args.device)
        owners = self.read_owners([host])
        text, node = _links(device)
        shown = {
            "host": host.name,
            "address": device.address,
            "model": device.model,
            "resource_class": device.resource_class,
            "state": device.state.value,
            "capacity": device.amount.capacity,
            "used": device.amount.used,
            "server": ", ".join(owners.names(device)),
            "project": ", ".join(owners.projects(device)),
            "numa": node,
            "links": text,
            "linked_to": base.Numbers(_neighbors(host, device)),
            "traits": base.Words(sorted(device.traits)),
            "provider": device.uuid,
        }
        return tuple(shown), tuple(shown.values())

    def _find(self, text: str) -> tuple[model.Host, model.Device]:
        name, underscore, address = text.rpartition("_")
        if not underscore:
            name, address = self._host_of(text), ""
        for host in self.read_hosts(name):
            for device in host.devices:
                if device.uuid == text or device.address == address.lower():
                    return host, device
        raise _unknown(text)

    def _host_of(self, uuid: str) -> str:
        """Find the host of a provider."""
        get = self.services.placement
        try:
            provider = get(f"/resource_providers/{uuid}")
        except errors.NotFound:
            raise _unknown(uuid) from None
        root = get(f"/resource_providers/{provider['root_provider_uuid']}")
        return str(root["name"])


def _unknown(text: str) -> errors.Unknown:
    return errors.Unknown(
        kind="device",
        name=text,
        hint="; give <host>_<address>, such as hgx-1_0000:1b:00.0, or the UUID"
        " of its resource provider",
    )


def _neighbors(host: model.Host, device: model.Device) -> dict[str, str]:
    """Name the links of a device, by the address of the other device."""
    found = linked.LinkedDevices.of(host.devices)
    bit = found.devices.index(device)
    return {
        other.address: links.name(link)
        for other, link in zip(
            found.devices, found.topology.links[bit], strict=True
        )
        if links.SYS < link < links.SELF
    }
