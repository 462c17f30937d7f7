# SPDX-License-Identifier: Apache-2.0

"""What the commands have in common."""

import argparse
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import re
from typing import Any
from typing import TypeAlias

from cliff import columns
from osc_lib import exceptions
from osc_lib.command import command

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import connection
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import hosts
from nova_gpu_filter.fleet import identity
from nova_gpu_filter.fleet import known_aliases
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import quota
from nova_gpu_filter.osc import plugin

LOG = logging.getLogger(__name__)

Table: TypeAlias = tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]
"""What a command that lists returns: names of columns, rows."""
Shown: TypeAlias = tuple[tuple[str, ...], tuple[Any, ...]]
"""What a command that shows one thing returns: names, values."""


class GpuCommand(command.Command):
    """A command that asks the cloud; a failure is one line and exit code 1."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :raises CommandError: the message is for the operator.
        """
        streams = self.app.stdout, self.app.stderr
        # Anybody may name a server, and so write to an operator's terminal.
        self.app.stdout, self.app.stderr = map(printable.Stream, streams)
        try:
            return super().run(parsed_args)
        except exception.GpuFilterError as exc:
            raise exceptions.CommandError(
                printable.escape(str(exc), keep="\n\t")
            ) from exc
        finally:
            self.app.stdout, self.app.stderr = streams

    @property
    def services(self) -> connection.Services:
        """The services of the cloud."""
        # OpenStackClient sets an attribute for each plugin.
        found: connection.Services = getattr(
            self.app.client_manager, plugin.API_NAME
        )
        return found

    def read_hosts(
        self, name: str | None = None, with_bare_metal: bool = False
    ) -> tuple[model.Host, ...]:
        """Read all hosts with devices, or the one of a name."""
        return hosts.read(
            self.services.placement,
            self.services.compute,
            name,
            with_bare_metal,
        )

    def try_read_hosts(self, name: str) -> tuple[model.Host, ...]:
        """Read a host that need not have devices: none or one."""
        try:
            return self.read_hosts(name)
        except errors.Unknown:
            return ()

    def read_holders(self, hosts: Iterable[model.Host]) -> holders.Holders:
        """Read who has the devices of some hosts."""
        hosts = list(hosts)
        used = sum(d.amount.used for host in hosts for d in host.devices)
        if used > compute.PAGE:
            # All servers are read anyway then; first, it spares questions.
            return self.read_servers_and_holders(hosts)[2]
        owners = ownership.read(self.services.placement, hosts)
        return holders.read(self.services.compute, owners, hosts)

    def read_servers_and_holders(
        self, hosts: Sequence[model.Host]
    ) -> tuple[dict[str, model.Server], ownership.Owners, holders.Holders]:
        """Read all servers by UUID, and with their help who has devices."""
        servers = {
            server.uuid: server
            for server in compute.read_all_servers(self.services.compute)
        }
        owners = ownership.read(
            self.services.placement,
            hosts,
            ownership.choose_likely(servers.values(), hosts),
        )
        held = holders.read(self.services.compute, owners, hosts, servers)
        return servers, owners, held

    def read_limits(self) -> quota.Limits:
        """Read the unified limits of Nova in the region of the command.

        :raises FleetError: Keystone does not tell.
        """
        region = getattr(self.app.client_manager, "region_name", None)
        return identity.read_limits(
            self.services.identity, region, self.services.nova_ids
        )

    def read_project_names(self, uuids: Collection[str]) -> dict[str, str]:
        """Read what projects are called; their UUIDs, if Keystone does not
        answer."""
        try:
            return identity.read_names(self.services.identity, uuids)
        except errors.FleetError as exc:
            LOG.debug("Projects are shown by their UUIDs: %s", exc)
            return {uuid: uuid for uuid in uuids}


class Lines(columns.FormattableColumn[list[str]]):
    """A line each for people, a list for machines."""

    def human_readable(self) -> str:
        return "\n".join(self._value)


class Numbers(columns.FormattableColumn[Mapping[str, Any]]):
    """``fabric 4, nvlink 7`` for people, an object for machines."""

    def human_readable(self) -> str:
        return ", ".join(
            f"{key} {value}" for key, value in self._value.items()
        )


def check_model(found: Iterable[model.Host], name: str | None) -> None:
    """Refuse a model that no device has.

    :raises Unknown: the message lists those that there are.
    """
    devices = [device for host in found for device in host.devices]
    if name is not None and not any(is_named(d, name) for d in devices):
        known = {
            f"{device.model} ({device.resource_class})"
            for device in devices
            if device.resource_class
        }
        raise errors.Unknown(
            kind="model or resource class",
            name=name,
            hint=f"; known: {', '.join(sorted(known))}",
        )


def is_named(device: model.Device, name: str) -> bool:
    """Whether people call a device so: by model or resource class, however
    they part its words."""
    resource_class = device.resource_class or ""
    return _split_name(name) in (
        _split_name(device.model),
        _split_name(resource_class),
        _split_name(resource_class.removeprefix("CUSTOM_")),
    )


def _split_name(name: str) -> list[str]:
    """Split ``H100 SXM5 80GB``, ``h100_sxm5-80gb`` into the same words."""
    return re.findall("[^ _:-]+", name.casefold())


def add_name(
    parser: "argparse._ActionsContainer", name: str, help_: str, **more: Any
) -> None:
    """Add an argument that is the name or UUID of something, not empty.

    :param name: of the argument; without the dashes it is its metavar, too.
    :param more: further arguments of ``add_argument``.
    """
    more.setdefault("metavar", f"<{name.lstrip('-')}>")
    parser.add_argument(name, type=_read_name, help=help_, **more)


def _read_name(text: str) -> str:
    if not text.strip():
        # Services would list all.
        raise argparse.ArgumentTypeError("a name may not be empty")
    return text


def add_alias_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which aliases are given."""
    group = parser.add_argument_group(
        "aliases",
        "No API shows [pci]alias, so they are read from a nova.conf of a"
        " controller or given here.",
    )
    group.add_argument(
        "--nova-conf",
        metavar="<file>",
        action="append",
        default=[],
        help="nova.conf with the aliases, or a directory of .conf files; can"
        " be given again, later ones win (default:"
        f" {known_aliases.DEFAULT_PATH}, unless --alias is given)",
    )
    group.add_argument(
        "--alias",
        metavar="<json>",
        action="append",
        default=[],
        help="an alias as in nova.conf, such as"
        ' \'{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}\'; can be'
        " given again",
    )


def read_aliases(parsed_args: argparse.Namespace) -> known_aliases.Known:
    """Read the aliases that the options name.

    :raises GpuFilterError: a file or an alias cannot be read.
    """
    return known_aliases.read(parsed_args.nova_conf, parsed_args.alias)
