# SPDX-License-Identifier: Apache-2.0

"""What the commands have in common."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from cliff import columns
from osc_lib import exceptions
from osc_lib.command import command

from nova_gpu_filter import exception
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import placement
from nova_gpu_filter.osc import plugin


class GpuCommand(command.Command):
    """A command that asks the cloud; a failure is one line and exit code 1."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :raises CommandError: the message is for the operator.
        """
        try:
            return super().run(parsed_args)
        except exception.GpuFilterError as exc:
            raise exceptions.CommandError(str(exc)) from exc

    @property
    def services(self) -> plugin.Services:
        """The services of the cloud."""
        # OpenStackClient sets an attribute for each plugin.
        found: plugin.Services = getattr(
            self.app.client_manager, plugin.API_NAME
        )
        return found

    def read_hosts(self, name: str | None = None) -> tuple[model.Host, ...]:
        """Read all hosts with devices, or the one of a name."""
        return placement.read_hosts(self.services.placement, name)

    def hosts_named(self, name: str) -> tuple[model.Host, ...]:
        """Read a host that need not have devices: none or one."""
        try:
            return self.read_hosts(name)
        except errors.Unknown:
            return ()

    def read_owners(self, hosts: Iterable[model.Host]) -> "Owners":
        """Read who has the devices of some hosts."""
        hosts = list(hosts)
        used = sum(d.amount.used for host in hosts for d in host.devices)
        if used > compute.PAGE:
            # All servers are read anyway then; first, it spares questions.
            servers = list(compute.read_all_servers(self.services.compute))
            owners = ownership.read(
                self.services.placement,
                hosts,
                ownership.likely(servers, hosts),
            )
            return Owners(owners, {s.uuid: s for s in servers})
        owners = ownership.read(self.services.placement, hosts)
        consumers = {o.consumer for found in owners.values() for o in found}
        return Owners(
            owners, compute.read_servers(self.services.compute, consumers)
        )


class Owners:
    """Who has devices, by name where Nova knows one."""

    def __init__(
        self,
        owners: ownership.Owners,
        servers: Mapping[str, model.Server],
    ) -> None:
        self._owners = owners
        self._servers = servers

    def of(self, device: model.Device) -> tuple[model.Owner, ...]:
        """List the owners of a device."""
        return self._owners.get(device.uuid, ())

    def name(self, owner: model.Owner) -> str:
        """Name an owner: the server, else the UUID of the consumer."""
        server = self._servers.get(owner.consumer)
        return owner.consumer if server is None else server.name

    def names(self, device: model.Device) -> list[str]:
        """Name the owners of a device."""
        return [self.name(owner) for owner in self.of(device)]

    def projects(self, device: model.Device) -> list[str]:
        """List the projects that have a device."""
        return list(dict.fromkeys(owner.project for owner in self.of(device)))


class Words(columns.FormattableColumn[list[str]]):
    """Words separated by commas for people, a list for machines."""

    def human_readable(self) -> str:
        """Write the words."""
        return ", ".join(self._value)


class Lines(columns.FormattableColumn[list[str]]):
    """A line each for people, a list for machines."""

    def human_readable(self) -> str:
        """Write the lines."""
        return "\n".join(self._value)


class Numbers(columns.FormattableColumn[Mapping[str, Any]]):
    """``fabric 4, nvlink 7`` for people, an object for machines."""

    def human_readable(self) -> str:
        """Write names and numbers."""
        return ", ".join(
            f"{key} {value}" for key, value in self._value.items()
        )


def is_named(device: model.Device, name: str) -> bool:
    """Whether people call a device so: by model or resource class."""
    name = name.casefold()
    names = (device.model, device.resource_class or "")
    return name in (
        *(known.casefold() for known in names),
        (device.resource_class or "").removeprefix("CUSTOM_").casefold(),
    )


def number(value: float) -> float:
    """Round what is shown to people and machines alike."""
    return round(value, 3)
