# SPDX-License-Identifier: Apache-2.0

"""Whether the aliases ask for what the device specs offer.

An alias reaches a device through Placement by resource class and traits
(nova/objects/request_spec.py), and then through the pools of its host by ids
and tags (nova/pci/stats.py). Without ``pci_in_placement`` only the latter.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses

from nova.compute import pci_placement_translator as translator
from nova.pci import devspec
import os_traits

from nova_gpu_filter.status import pci
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node

_LIVE_MIGRATABLE = "live_migratable"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What one alias asks Placement for."""

    resource_class: str
    traits: frozenset[str]


def list_asked_of_placement(alias: Mapping[str, str]) -> Asked:
    """Translate one spec of an alias as nova-api does."""
    return Asked(
        translator.get_resource_class(
            alias.get("resource_class"),
            alias.get("vendor_id", ""),
            alias.get("product_id", ""),
        ),
        frozenset(translator.get_traits(alias.get("traits", ""))),
    )


def check(node: Node) -> results.Result:
    """Look for device specs that no alias can reach."""
    try:
        aliases = pci.read_aliases(node)
        specs = pci.read_device_specs(node)
    except pci.UnreadableError:
        return results.does_not_apply("one of them cannot be read, see above.")
    if not aliases or not specs:
        return results.does_not_apply(
            "this node has not both [pci]alias and [pci]device_spec."
        )
    in_placement = node.conf.filter_scheduler.pci_in_placement
    problems = []
    reached = set()
    for spec in specs:
        if spec.get_tags().get("physical_network"):
            # For Neutron ports.
            continue
        differences = {
            name: min(
                (
                    list(_find_differences(alias, spec, in_placement))
                    for alias in found
                ),
                key=len,
            )
            for name, found in aliases.items()
        }
        fitting = {name for name, why in differences.items() if not why}
        reached |= fitting
        if not fitting:
            nearest = min(differences, key=lambda name: len(differences[name]))
            problems.append(
                results.warn(
                    f"[pci]device_spec {spec.dev_spec_conf} fits no"
                    f" [pci]alias; the nearest, {nearest}, asks for"
                    f" {' and '.join(differences[nearest])}."
                )
            )
    others = sorted(set(aliases) - reached)
    return results.combine(
        problems,
        otherwise=f"No device_spec of this node is for {', '.join(others)};"
        " right if other hosts have such devices."
        if others
        else None,
    )


def _find_differences(
    alias: Mapping[str, str], spec: devspec.PciDeviceSpec, in_placement: bool
) -> Iterator[str]:
    """Say what the alias asks for that a device of the spec cannot have."""
    tags = spec.get_tags()
    for key, offered in (
        ("vendor_id", spec.vendor_id),
        ("product_id", spec.product_id),
    ):
        asked = alias.get(key)
        if asked and offered not in (devspec.ANY, asked.lower()):
            yield f"{key} {asked}"
    if (asked := alias.get(_LIVE_MIGRATABLE)) is not None and (
        # A device without the tag is given to nobody who asks for "no".
        asked != tags.get(_LIVE_MIGRATABLE)
    ):
        yield f"{_LIVE_MIGRATABLE} {asked}"
    if not in_placement:
        return
    wanted = list_asked_of_placement(alias)
    offered_class = tags.get("resource_class")
    if offered_class or devspec.ANY not in (spec.vendor_id, spec.product_id):
        offered_class = translator.get_resource_class(
            offered_class, spec.vendor_id, spec.product_id
        )
        if wanted.resource_class != offered_class:
            yield f"resource class {wanted.resource_class}"
    offered_traits = translator.get_traits(tags.get("traits", "")) | {
        os_traits.COMPUTE_MANAGED_PCI_DEVICE
    }
    if tags.get(_LIVE_MIGRATABLE) == "true":
        offered_traits.add(os_traits.HW_PCI_LIVE_MIGRATABLE)
    if missing := wanted.traits - offered_traits:
        yield f"traits {', '.join(sorted(missing))}"
