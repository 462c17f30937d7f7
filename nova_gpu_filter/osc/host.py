# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu host``."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from cliff import columns
from osc_lib.command import command

from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import summary
from nova_gpu_filter.osc import base

_UNITS = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}


class _Largest(columns.FormattableColumn[Mapping[str, int]]):
    """Sizes by link; people need no weaker link that gives no more."""

    def human_readable(self) -> str:
        """Write ``fabric 4, nvlink 7``."""
        shown, most = [], -1
        for link, size in self._value.items():
            if size > most:
                shown.append(f"{link} {size}")
                most = size
        return ", ".join(shown)


class _Partitions(columns.FormattableColumn[Mapping[int, tuple[int, int]]]):
    """(intact, all) by size."""

    def human_readable(self) -> str:
        """Write ``8: 0/1, 4: 1/2``."""
        return ", ".join(
            f"{size}: {intact}/{there}"
            for size, (intact, there) in self._value.items()
        )

    def machine_readable(self) -> Any:
        """Return an object of objects."""
        return {
            str(size): {"intact": intact, "total": there}
            for size, (intact, there) in self._value.items()
        }


def _measure_largest(found: summary.ModelSummary) -> _Largest:
    sizes = found.linked.measure_largest_by_link()
    return _Largest(
        {requirement.value: size for requirement, size in sizes.items()}
    )


class ListHost(command.Lister, base.GpuCommand):
    """List the hosts with devices, a line for each model.

    Largest Set is how many free devices can be had of which all pairs have at
    least that link. Partitions are the fabric partitions that are wholly free,
    of those that there are, by size. F is the fragmentation: the free devices
    that expected requests could not use. On a host whose nova-compute is down
    or disabled nothing is free; what nobody has there is Unavailable. A bare
    metal node of Ironic whose traits tell of GPUs is one device, whatever is
    in it, and Reserved while it is not available; its host is its UUID.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the option."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--model",
            type=base.read_name,
            metavar="<model>",
            help="only this model, or this resource class",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """List the hosts."""
        hosts = self.read_hosts(with_bare_metal=True)
        base.check_model(hosts, parsed_args.model)
        return (
            "Host",
            "Status",
            "Model",
            "Total",
            "Free",
            "Used",
            "Reserved",
            "Unavailable",
            "Largest Set",
            "Partitions",
            "F",
        ), [
            (
                host.name,
                host.status,
                found.model,
                found.counts.total,
                found.counts.free,
                found.counts.used,
                found.counts.reserved,
                found.counts.unavailable,
                _measure_largest(found),
                _Partitions(found.linked.count_partitions()),
                base.round_number(found.fragmentation),
            )
            for host in hosts
            for found in summary.summarize(host)
            if parsed_args.model is None
            or any(
                base.is_named(device, parsed_args.model)
                for device in found.linked.devices
            )
        ]


class ShowHost(command.ShowOne, base.GpuCommand):
    """Show one host: its devices in numbers, what else is free, the owners."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the argument."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "host",
            type=base.read_name,
            metavar="<host>",
            help="hypervisor hostname",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Show the host."""
        (host,) = self.read_hosts(parsed_args.host, with_bare_metal=True)
        held = self.read_holders([host])
        shown: dict[str, Any] = {
            "host": host.name,
            "provider": host.uuid,
            "status": host.status,
        }
        if host.service is not None:
            shown["zone"] = host.service.zone
            if host.service.disabled_reason:
                shown["disabled_reason"] = host.service.disabled_reason
        if host.is_bare_metal:
            shown["resource_class"] = base.CommaList([*host.resource_classes])
            shown["traits"] = base.CommaList(sorted(host.traits))
        for resource_class, name in _UNITS.items():
            amount = host.amounts.get(resource_class)
            if amount is not None:
                # Nothing counts on a host that takes no servers.
                shown[f"{name}_free"] = 0 if host.obstacles else amount.free
        for found in summary.summarize(host):
            prefix = found.resource_class.removeprefix("CUSTOM_").lower()
            shown |= {
                f"{prefix}_model": found.model,
                f"{prefix}_total": found.counts.total,
                f"{prefix}_free": found.counts.free,
                f"{prefix}_used": found.counts.used,
                f"{prefix}_reserved": found.counts.reserved,
                f"{prefix}_unavailable": found.counts.unavailable,
                f"{prefix}_largest_set": _measure_largest(found),
                f"{prefix}_partitions": _Partitions(
                    found.linked.count_partitions()
                ),
                f"{prefix}_fragmentation": base.round_number(
                    found.fragmentation
                ),
            }
        shown["servers"] = base.Numbers(_count_devices_by_server(host, held))
        return tuple(shown), tuple(shown.values())


def _count_devices_by_server(
    host: model.Host, held: holders.Holders
) -> dict[str, int]:
    """Count the devices of each server."""
    found: dict[str, int] = {}
    for device in host.devices:
        for owner in held.list_owners(device):
            name = held.label(owner.consumer, host.name)
            found[name] = found.get(name, 0) + owner.amount
    return found
