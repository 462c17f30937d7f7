# SPDX-License-Identifier: Apache-2.0

"""Read the hosts of a real cloud, and what is free on them, from Placement."""

from collections.abc import Collection
from collections.abc import Iterable

from nova import utils

from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import placement
from nova_gpu_filter.fleet import service
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import inventory
from nova_gpu_filter.topology.topology import mask_of


def connect() -> service.Get:
    """Ask Placement with the credentials in ``[placement]`` of nova.conf.

    Options have to be read before.
    """
    return service.getter(
        utils.get_ksa_adapter("placement"),
        "Placement",
        service.PLACEMENT_MICROVERSION,
    )


def read(
    get: service.Get, resource_classes: Collection[str]
) -> list[inventory.HostSpec]:
    """Read the hosts that have devices of some resource classes.

    Only devices that are a provider of their own are GPUs here: what has a
    capacity above 1 is no whole GPU, and what is reserved is none at all.

    :raises BadScenario: there is none, or its traits cannot be read.
    :raises FleetError: Placement does not answer.
    """
    kinds: dict[inventory.HostKind, inventory.HostKind] = {}
    specs = []
    for host in placement.read_hosts(get):
        gpus = [
            device
            for device in host.devices
            if device.resource_class in resource_classes
            and device.amount.capacity == 1
        ]
        if gpus:
            kind = _kind(host.name, gpus)
            used = mask_of(
                bit for bit, gpu in enumerate(gpus) if gpu.amount.used
            )
            kind = kinds.setdefault(kind, kind)
            specs.append(inventory.HostSpec(host.name, kind, used))
    if not specs:
        raise errors.BadScenario(
            source="Placement",
            problem=f"no host has {' or '.join(sorted(resource_classes))}",
        )
    return specs


def _kind(host: str, gpus: Iterable[model.Device]) -> inventory.HostKind:
    found = linked.LinkedDevices.of(gpus)
    if found.problem is not None:
        raise errors.BadScenario(
            source=f"Placement, host {host}", problem=found.problem
        )
    models = sorted({str(gpu.resource_class) for gpu in found.devices})
    return inventory.HostKind(
        name="-".join(models),
        model=" ".join(models),
        links=tuple(gpu.links or None for gpu in found.devices),
        numa=(None,) * len(found.devices),
    )
