# SPDX-License-Identifier: Apache-2.0

"""Whether the aliases ask for what the device specs offer.

An alias reaches a device through Placement by resource class and traits
(nova/objects/request_spec.py), and then through the pools of its host by ids
and tags (nova/pci/stats.py). Without ``pci_in_placement`` only the latter.
"""

from collections.abc import Iterator
import json

from nova.pci import devspec

from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.status import pci
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node


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
    alias: Alias, spec: devspec.PciDeviceSpec, in_placement: bool
) -> Iterator[str]:
    """Say what the alias asks for that a device of the spec cannot have.

    Of which type a device is, its spec does not say.
    """
    (offered,) = device_spec.parse(json.dumps(spec.dev_spec_conf))
    ids = (offered.vendor_id, offered.product_id)
    for key in ("vendor_id", "product_id"):
        asked = getattr(alias, key)
        if asked and getattr(offered, key) not in (None, asked):
            yield f"{key} {asked}"
    moves = alias.live_migratable
    # A device without the tag is given to nobody who asks for "no".
    if moves is not None and moves is not offered.read_tag("live_migratable"):
        yield f"live_migratable {str(moves).lower()}"
    if not in_placement:
        return
    named = offered.tags.get("resource_class")
    if (
        named or None not in ids
    ) and alias.resource_class != names.get_resource_class(named, *ids):
        yield f"resource class {alias.resource_class}"
    if missing := alias.traits - offered.reported_traits:
        yield f"traits {', '.join(sorted(missing))}"
