# SPDX-License-Identifier: Apache-2.0

"""The command ``openstack gpu flavor check``."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence

from osc_lib.command import command

from nova_gpu_filter import exception
from nova_gpu_filter import files
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import guest_memory
from nova_gpu_filter.fleet import lint
from nova_gpu_filter.fleet import model
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.osc import base
from nova_gpu_filter.severity import Severity


class CheckFlavor(command.Lister, base.GpuCommand):
    """Check whether servers of a flavor can start and use their devices.

    An empty list is a good one. The exit code is 1 if there is an error.
    How much address space devices take is in no API: give inventories of
    hosts (nova-gpu-host inventory -f json) to have that checked.
    """

    has_error = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_name(parser, "flavor", "name or id")
        base.add_name(
            parser, "--image", "the image that goes with it (name or id)"
        )
        base.add_name(
            parser,
            "--inventory",
            "inventory of a host that has the devices; can be given again",
            action="append",
            default=[],
            metavar="<file>",
        )
        base.add_alias_options(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Check the flavor; 1 if there is an error."""
        return super().run(parsed_args) or int(self.has_error)

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        known = base.read_aliases(parsed_args)
        inventories = [_read(path) for path in parsed_args.inventory]
        flavor = compute.find_flavor(self.services.compute, parsed_args.flavor)
        image = None
        if parsed_args.image:
            image = compute.find_image(self.services.image, parsed_args.image)
        hosts = self.read_hosts()
        products = _find_products(hosts, inventories)
        question = lint.Question(
            flavor, known.by_name, known.source, hosts, products, image
        )
        found = lint.check(question)
        self.has_error = any(
            finding.severity is Severity.ERROR for finding in found
        )
        return ("Severity", "Key", "Finding"), [
            (finding.severity.value, finding.key, finding.text)
            for finding in found
        ]


def _read(path: str) -> inventory.Inventory:
    try:
        text = files.read_bytes(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise exception.FileUnreadable(path=path, error=reason) from exc
    return inventory_json.read(path, text)[0]


def _find_products(
    hosts: Iterable[model.Host], inventories: Sequence[inventory.Inventory]
) -> dict[str, guest_memory.Product]:
    """Find what inventories say of devices, by UUID of the provider.

    A hypervisor hostname may have a domain that the hostname lacks.
    """
    functions = {
        (host.hostname.partition(".")[0], str(function.address)): function
        for host in inventories
        for function in host.functions
    }
    found = {}
    for host in hosts:
        short = host.name.partition(".")[0]
        for device in host.devices:
            function = functions.get((short, device.address))
            if function is not None:
                found[device.uuid] = guest_memory.Product(
                    function.product, function.bar_bytes
                )
    return found
