# SPDX-License-Identifier: Apache-2.0

"""Read the hosts of a real cloud, and what is free on them, from Placement."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
import dataclasses
from typing import Any
from typing import Final

from nova import utils

from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import inventory
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology.topology import mask_of

MICROVERSION: Final = "1.29"
"""First one whose allocation candidates have all providers of a tree."""

Get = Callable[[str], Any]
"""Asks Placement for a path; returns the JSON object of the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Device:
    """A provider that has one of the resource classes."""

    name: str
    """By which its devices are in the order of PCI addresses:
    ``<host>_<address>``."""
    resource_class: str
    capacity: int
    used: int
    traits: tuple[str, ...]


def connect() -> Get:
    """Ask Placement with the credentials in ``[placement]`` of nova.conf.

    Options have to be read before.
    """
    adapter = utils.get_ksa_adapter("placement")

    def get(path: str) -> Any:
        try:
            response = adapter.get(
                path, microversion=MICROVERSION, raise_exc=True
            )
        except Exception as exc:  # keystoneauth has no base class for all
            raise errors.BadScenario(
                source=f"Placement, GET {path}", problem=exc
            ) from exc
        return response.json()

    return get


def read(
    get: Get, resource_classes: Collection[str]
) -> list[inventory.HostSpec]:
    """Read the hosts that have devices of some resource classes.

    Only devices that are a provider of their own are GPUs here: what has a
    capacity above 1 is no whole GPU.

    :raises BadScenario: there is none, its traits cannot be read, or Placement
        does not answer.
    """
    names = {
        provider["uuid"]: (
            provider["name"],
            provider["root_provider_uuid"],
        )
        for provider in get("/resource_providers")["resource_providers"]
    }
    devices_by_root: dict[str, list[_Device]] = {}
    wanted = frozenset(resource_classes)
    for uuid, device in _devices(get, wanted, names):
        if device.capacity == 1:
            devices_by_root.setdefault(names[uuid][1], []).append(device)
    kinds: dict[inventory.HostKind, inventory.HostKind] = {}
    specs = []
    for root, devices in devices_by_root.items():
        devices.sort(key=lambda device: (len(device.name), device.name))
        host = names[root][0]
        models = {device.resource_class for device in devices}
        try:
            kind = inventory.HostKind(
                name="-".join(sorted(models)),
                model=" ".join(sorted(models)),
                links=tuple(
                    codec.format_text(
                        codec.parse_traits(device.name, device.traits)
                    )
                    or None
                    for device in devices
                ),
                numa=(None,) * len(devices),
            )
            assert kind.topology.n == len(devices)  # now: they fit together
        except codec.LinkTextError as exc:
            raise errors.BadScenario(
                source=f"Placement, host {host}", problem=exc
            ) from exc
        used = mask_of(
            bit for bit, device in enumerate(devices) if device.used
        )
        specs.append(
            inventory.HostSpec(host, kinds.setdefault(kind, kind), used)
        )
    if not specs:
        raise errors.BadScenario(
            source="Placement",
            problem=f"no host has {' or '.join(sorted(resource_classes))}",
        )
    return sorted(specs, key=lambda spec: spec.name)


def _devices(
    get: Get,
    resource_classes: frozenset[str],
    names: dict[str, tuple[str, str]],
) -> Iterator[tuple[str, _Device]]:
    """Find the devices.

    :param names: provider UUID -> name, UUID of the root provider.
    """
    seen: set[str] = set()  # root providers
    for resource_class in sorted(resource_classes):
        # One answer tells all of the hosts with a free device of the class.
        found = get(f"/allocation_candidates?resources={resource_class}:1")
        for uuid, summary in found["provider_summaries"].items():
            if uuid not in names or names[uuid][1] in seen:
                continue
            for class_ in resource_classes & summary["resources"].keys():
                amounts = summary["resources"][class_]
                yield (
                    uuid,
                    _Device(
                        names[uuid][0],
                        class_,
                        amounts["capacity"],
                        amounts["used"],
                        tuple(summary["traits"]),
                    ),
                )
        seen.update(
            names[uuid][1]
            for uuid in found["provider_summaries"]
            if uuid in names
        )
    for uuid, (name, root) in names.items():
        if root in seen or uuid == root:
            continue
        path = f"/resource_providers/{uuid}"
        there = get(f"{path}/inventories")["inventories"]
        for class_ in resource_classes & there.keys():
            yield (
                uuid,
                _Device(
                    name,
                    class_,
                    there[class_]["total"] - there[class_]["reserved"],
                    get(f"{path}/usages")["usages"][class_],
                    tuple(get(f"{path}/traits")["traits"]),
                ),
            )
