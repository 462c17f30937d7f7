# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu device``."""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import re
from typing import Any
from typing import Final
from urllib import parse

from cliff import columns
import os_traits
from osc_lib.cli import format_columns
from osc_lib.command import command

from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.osc import base
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import links

_NODE = f"{links.name(links.NODE).lower()}:"
_UUID: Final = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24}\b")
"""Of a project, as Keystone makes it."""


def _split_links(device: model.Device) -> tuple[str, str]:
    """Return the links of a device, and the number of its NUMA node."""
    try:
        tokens = device.links.split(",") if device.links else []
    except codec.LinkTextError:
        return "cannot be read", ""
    nodes = [t.removeprefix(_NODE) for t in tokens if t.startswith(_NODE)]
    others = [token for token in tokens if not token.startswith(_NODE)]
    return ",".join(others), ",".join(nodes)


class _Links(columns.FormattableColumn[str]):
    """The tag ``gpu_links``; for people, ``nv18:0 fabric:0/8,2/4``."""

    def human_readable(self) -> str:
        text: str = self._value
        head, fabric, tail = text.partition("fabric:")
        rest = tail.replace("fabric:", "")
        return f"{head.rstrip(',')} {fabric}{rest}".strip()


class _Traits(columns.FormattableColumn[list[str]]):
    """Traits; for people, without those that other columns say."""

    def human_readable(self) -> str:
        return "\n".join(
            trait
            for trait in self._value
            if trait != os_traits.COMPUTE_MANAGED_PCI_DEVICE
            and not trait.startswith(our_traits.MODEL)
        )


class _Projects(columns.FormattableColumn[str]):
    """Projects; for people, UUIDs without a name as servers' are written."""

    def human_readable(self) -> str:
        return _UUID.sub(r"\1", self._value)


@dataclasses.dataclass(frozen=True)
class _Row:
    """One device, and what its columns are made of."""

    host: model.Host
    device: model.Device
    holders: holders.Holders
    project_names: Mapping[str, str]

    @property
    def servers(self) -> str:
        """Who has it."""
        return ", ".join(self.holders.list_labels(self.device))

    @property
    def projects(self) -> str:
        """Which projects have it."""
        return ", ".join(
            self.project_names.get(uuid, uuid)
            for uuid in self.holders.list_projects(self.device)
        )


_COLUMNS: Final[Mapping[str, Callable[[_Row], Any]]] = {
    "Host": lambda row: row.host.name,
    "Address": lambda row: row.device.address,
    "Model": lambda row: row.device.model,
    "NUMA": lambda row: _split_links(row.device)[1],
    "Links": lambda row: _Links(_split_links(row.device)[0]),
    "State": lambda row: row.device.state.value,
    "Server": lambda row: row.servers,
    "Project": lambda row: _Projects(row.projects),
    "Resource Class": lambda row: row.device.resource_class,
    "Traits": lambda row: _Traits(list(row.device.other_traits)),
    "Free": lambda row: row.device.free,
    "Used": lambda row: row.device.amount.used,
    "Provider": lambda row: row.device.uuid,
}
_ALWAYS: Final = ("Host", "Address", "Model", "NUMA", "Links", "State")
_OF_OWNERS: Final = ("Server", "Project")
# What Host, Address and Model say in other words, and wide.
_ONLY_BY_NAME: Final = ("Resource Class", "Provider")


class ListDevice(command.Lister, base.GpuCommand):
    """List the PCI devices that Placement knows, and what is free of them.

    GPUs that are divided into mediated devices (resources:VGPU) are listed,
    too. Free and Used, with --long, count these, and VFs.

    Who has a device costs a request or two for each server, so it is listed
    with --long, --host or --server only, or if a column of it is chosen with
    -c. Resource Class and Provider are shown if they are chosen with -c, or to
    sort by. NUMA is the number of a group: the devices of one host with the
    same number are on one NUMA node.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(
            parser, "--host", "only of this host (hypervisor hostname)"
        )
        base.add_name(
            parser, "--model", "only of this model, or of this resource class"
        )
        parser.add_argument(
            "--free",
            action="store_true",
            help="only those of which something is free",
        )
        base.add_name(
            parser,
            "--server",
            "only those of this server (name or UUID); of a resize that"
            " waits to be confirmed, those of both ends",
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="also show owners, how many are free and used, and the traits"
            " that are no links",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        names = _choose_columns(parsed_args)
        found = self._choose(parsed_args)
        held = holders.Holders({}, ())
        project_names: Mapping[str, str] = {}
        if not set(_OF_OWNERS).isdisjoint(names):
            hosts = {host.uuid: host for host, _ in found}
            held = self.read_holders(hosts.values())
            if "Project" in names:
                project_names = self.read_project_names(held.all_projects)
        rows = (_Row(*one, held, project_names) for one in found)
        return names, [
            tuple(_COLUMNS[name](row) for name in names) for row in rows
        ]

    def _choose(
        self, parsed_args: argparse.Namespace
    ) -> list[tuple[model.Host, model.Device]]:
        of_server: Mapping[str, model.Owner] | None = None
        if parsed_args.server:
            of_server = self._read_server(parsed_args.server)
            if not of_server:
                return []
        hosts = self.read_hosts(parsed_args.host)
        base.check_model(hosts, parsed_args.model)
        return [
            (host, device)
            for host in hosts
            for device in host.devices
            if (of_server is None or device.uuid in of_server)
            and (not parsed_args.free or device.is_free)
            and (
                parsed_args.model is None
                or base.is_named(device, parsed_args.model)
            )
        ]

    def _read_server(self, name: str) -> dict[str, model.Owner]:
        """Read what a server has, on both ends of a resize."""
        server = compute.find_server(self.services.compute, name)
        found: dict[str, model.Owner] = {}
        for one in holders.read_consumers_of(self.services.compute, server):
            found |= ownership.read_consumer(self.services.placement, one)
        return found


def _choose_columns(parsed_args: argparse.Namespace) -> tuple[str, ...]:
    """Choose what to show; what is named with -c or to sort by, always.

    Names may be written in every way that cliff takes. Where one of -c is
    none, all are chosen: cliff tells them if no other is left.
    """
    chosen = {_normalize(name) for name in parsed_args.columns or ()}
    if chosen - {_normalize(name) for name in _COLUMNS}:
        return tuple(_COLUMNS)
    named = chosen | {
        _normalize(name) for name in parsed_args.sort_columns or ()
    }
    with_owners = parsed_args.host or parsed_args.server
    return tuple(
        name
        for name in _COLUMNS
        if name in _ALWAYS
        or _normalize(name) in named
        or (with_owners and name in _OF_OWNERS)
        or (parsed_args.long and name not in _ONLY_BY_NAME)
    )


def _normalize(column: str) -> str:
    """Write a column as cliff compares it (cliff/display.py)."""
    return column.lower().strip().replace(" ", "_")


class ShowDevice(command.ShowOne, base.GpuCommand):
    """Show one PCI device: what it is linked to, and who has it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(
            parser, "device", "its resource provider: <host>_<address> or UUID"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Shown:
        host, device = find_device(self, parsed_args.device)
        held = self.read_holders([host])
        project_names = self.read_project_names(
            set(held.list_projects(device))
        )
        row = _Row(host, device, held, project_names)
        text, node = _split_links(device)
        shown = {
            "host": host.name,
            "address": device.address,
            "model": device.model,
            "resource_class": device.resource_class,
            "state": device.state.value,
            "capacity": device.amount.capacity,
            "used": device.amount.used,
            "free": device.free,
            "server": row.servers,
            "project": row.projects,
            "numa": node,
            "links": text,
            "linked_to": base.Numbers(_describe_neighbors(host, device)),
            "traits": format_columns.ListColumn(sorted(device.traits)),
            "provider": device.uuid,
        }
        return tuple(shown), tuple(shown.values())


def find_device(
    asked: base.GpuCommand, text: str
) -> tuple[model.Host, model.Device]:
    """Find a device by the name or the UUID of its provider.

    :raises Unknown: the message has names that are like it.
    """
    name, underscore, _ = text.rpartition("_pci_" if "_pci_" in text else "_")
    if not underscore:
        name = _find_host(asked, text) or text
    label = name + text[len(name) :].lower()
    known: list[model.Device] = []
    # Where no host has that name, those of all are like it.
    for host in asked.try_read_hosts(name) or asked.read_hosts():
        for device in host.devices:
            if text == device.uuid or label == device.label:
                return host, device
            known.append(device)
    hint = errors.find_hint(text, [device.label for device in known])
    raise errors.Unknown(kind="device", name=text, hint=hint)


def _find_host(asked: base.GpuCommand, uuid: str) -> str | None:
    """Find the host of a provider."""
    get = asked.services.placement
    try:
        provider = get(f"/resource_providers/{parse.quote(uuid, safe='')}")
    except errors.NotFound:
        return None
    root = get(f"/resource_providers/{provider['root_provider_uuid']}")
    return str(root["name"])


def _describe_neighbors(
    host: model.Host, device: model.Device
) -> dict[str, str]:
    """Name the links of a device, by the address of the other device: the
    direct one, and the way over PCIe, as far as they are known."""
    found = linked_devices.LinkedDevices.from_devices(host.devices)
    bit = found.devices.index(device)
    topology = found.topology
    neighbors = {}
    for other, link, way in zip(
        found.devices, topology.links[bit], topology.ways[bit], strict=True
    ):
        known = [
            links.name(one)
            for one in dict.fromkeys((link, way))
            if links.SYS < one < links.SELF
        ]
        if known:
            neighbors[other.address] = " ".join(known)
    return neighbors
