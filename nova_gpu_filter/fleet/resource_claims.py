# SPDX-License-Identifier: Apache-2.0

"""Resources that a flavor claims in Placement beside those of its aliases."""

from collections.abc import Iterator
from collections.abc import Sequence
import re

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs


def find_twice(
    flavor: model.Flavor, wanted: demand.Demand
) -> Iterator[tuple[str, str]]:
    """Find resources that both the alias and the flavor itself ask for.

    :returns: (extra spec, what is wrong with it).
    """
    classes = {
        asked.alias.resource_class: asked.alias.name
        for asked in wanted.devices
    }
    for key, name in _list_resource_keys(flavor):
        if name in classes:
            yield (
                key,
                f"alias {classes[name]} asks for {name} as well, so that"
                " servers would claim devices that they never get: remove this"
                " extra spec",
            )


def _list_resource_keys(flavor: model.Flavor) -> Iterator[tuple[str, str]]:
    """List the extra specs that ask for resources, with their classes."""
    for key, value in flavor.extra_specs.items():
        group, colon, name = key.partition(":")
        if (
            colon
            and re.fullmatch("resources[0-9A-Za-z_-]*", group)
            and value.strip("0")
        ):
            yield key, name


def find_without_alias(
    hosts: Sequence[model.Host], wanted: demand.Demand, flavor: model.Flavor
) -> Iterator[tuple[str, str]]:
    """Find devices that servers would claim in Placement and never get.

    Nova makes PCI requests, and so guests with devices, of aliases only;
    mediated devices are asked for in no other way than this.

    :returns: (extra spec, what is wrong with it).
    """
    by_alias = {asked.alias.resource_class for asked in wanted.devices}
    classes = {
        name
        for host in hosts
        for name in host.resource_classes
        if name not in host.mediated_classes
    }
    for key, name in _list_resource_keys(flavor):
        if name in classes - by_alias:
            yield (
                key,
                f"claims {name} in Placement, but no {extra_specs.ALIAS_KEY}"
                " asks for it: guests would get no device; ask for it by an"
                " alias instead",
            )
