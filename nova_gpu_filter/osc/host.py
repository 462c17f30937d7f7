# SPDX-License-Identifier: Apache-2.0

"""The commands ``openstack gpu host``."""

import argparse
import collections
from collections.abc import Mapping
from typing import Any

from cliff import columns
from osc_lib.cli import format_columns
from osc_lib.command import command

from nova_gpu_filter.fleet import summary
from nova_gpu_filter.osc import base

_UNITS = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}


class _Largest(columns.FormattableColumn[Mapping[str, int]]):
    """Sizes by link; people need no weaker link that gives no more."""

    def human_readable(self) -> str:
        shown, most = [], -1
        for link, size in self._value.items():
            if size > most:
                shown.append(f"{link} {size}")
                most = size
        return ", ".join(shown)


class _Partitions(columns.FormattableColumn[Mapping[int, tuple[int, int]]]):
    """(intact, all) by size; for people, ``8: 0/1, 4: 1/2``."""

    def human_readable(self) -> str:
        return ", ".join(
            f"{size}: {intact}/{there}"
            for size, (intact, there) in self._value.items()
        )

    def machine_readable(self) -> Any:
        return {
            str(size): {"intact": intact, "total": there}
            for size, (intact, there) in self._value.items()
        }


def _measure(found: summary.ModelSummary) -> dict[str, Any]:
    """Say in numbers what there is of one model on one host."""
    sizes = found.linked.measure_largest_by_link()
    return {
        "model": found.model,
        "total": found.counts.total,
        "free": found.counts.free,
        "used": found.counts.used,
        "reserved": found.counts.reserved,
        "unavailable": found.counts.unavailable,
        "largest_set": _Largest(
            {link.value: size for link, size in sizes.items()}
        ),
        "partitions": _Partitions(found.linked.count_partitions()),
        "fragmentation": round(found.fragmentation, 3),
    }


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
        parser = super().get_parser(prog_name)
        base.add_name(
            parser, "--model", "only this model, or this resource class"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
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
            (host.name, host.status, *_measure(found).values())
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
        parser = super().get_parser(prog_name)
        base.add_name(parser, "host", "hypervisor hostname")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Shown:
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
            classes = list(host.resource_classes)
            shown["resource_class"] = format_columns.ListColumn(classes)
            shown["traits"] = format_columns.ListColumn(sorted(host.traits))
        for resource_class, name in _UNITS.items():
            amount = host.amounts.get(resource_class)
            if amount is not None:
                # Nothing counts on a host that takes no servers.
                shown[f"{name}_free"] = 0 if host.obstacles else amount.free
        for found in summary.summarize(host):
            prefix = found.resource_class.removeprefix("CUSTOM_").lower()
            for name, figure in _measure(found).items():
                shown[f"{prefix}_{name}"] = figure
        devices_by_server: collections.Counter[str] = collections.Counter()
        for device in host.devices:
            for owner in held.list_owners(device):
                name = held.label(owner.consumer, host.name)
                devices_by_server[name] += owner.amount
        shown["servers"] = base.Numbers(dict(devices_by_server))
        return tuple(shown), tuple(shown.values())
