# SPDX-License-Identifier: Apache-2.0

"""Read the hosts of a real cloud, and what is free on them, from Placement."""

from collections.abc import Collection
from collections.abc import Iterable

from nova import utils

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import provider_trees
from nova_gpu_filter.simulate import errors
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.topology.topology import make_mask


def connect() -> api.Get:
    """Ask Placement with the credentials in ``[placement]`` of nova.conf.

    Options have to be read before.
    """
    return api.make_getter(
        utils.get_ksa_adapter("placement"),
        "Placement",
        api.PLACEMENT_MICROVERSION,
    )


def read(
    get: api.Get, resource_classes: Collection[str]
) -> list[hosts_file.HostSpec]:
    """Read the hosts that have devices of some resource classes.

    Only devices that are a provider of their own are GPUs here: what has a
    capacity above 1 is no whole GPU, and what is reserved is none at all.

    :raises BadScenario: there is none, or its traits cannot be read.
    :raises FleetError: Placement does not answer.
    """
    kinds: dict[hosts_file.HostKind, hosts_file.HostKind] = {}
    specs = []
    for host in provider_trees.read_hosts(get):
        gpus = [
            device
            for device in host.devices
            if device.resource_class in resource_classes
            and device.amount.capacity == 1
        ]
        if gpus:
            kind = _read_kind(host.name, gpus)
            used = make_mask(
                bit for bit, gpu in enumerate(gpus) if gpu.amount.used
            )
            kind = kinds.setdefault(kind, kind)
            specs.append(hosts_file.HostSpec(host.name, kind, used))
    if not specs:
        raise errors.BadScenario(
            "Placement", f"no host has {' or '.join(sorted(resource_classes))}"
        )
    return specs


def _read_kind(host: str, gpus: Iterable[model.Device]) -> hosts_file.HostKind:
    found = linked_devices.LinkedDevices.from_devices(gpus)
    if found.problem is not None:
        raise errors.BadScenario(f"Placement, host {host}", found.problem)
    models = sorted({str(gpu.resource_class) for gpu in found.devices})
    return hosts_file.HostKind(
        name="-".join(models),
        model=" ".join(models),
        links=tuple(gpu.links or None for gpu in found.devices),
        numa=(None,) * len(found.devices),
    )
