# SPDX-License-Identifier: Apache-2.0

"""Hosts of a cloud by the machines that they are."""

from collections.abc import Collection
from collections.abc import Sequence

from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups
from nova_gpu_filter.topology.topology import Topology
from tests import machines

H100 = "CUSTOM_GPU_H100"
BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)
"""Of the GPUs of an HGX H100."""
ROOT = {
    "VCPU": model.Amount(224, 0),
    "MEMORY_MB": model.Amount(2 << 20, 0),
    "DISK_GB": model.Amount(20000, 0),
}


def device(
    host: str,
    bus: int,
    used: int = 0,
    capacity: int = 1,
    resource_class: str | None = H100,
    traits: Collection[str] = (),
) -> model.Device:
    """Make a device of a host; its UUID is the name of its provider."""
    name = f"{host}_0000:{bus:02X}:00.0"
    return model.Device(
        name,
        name,
        f"0000:{bus:02x}:00.0",
        resource_class,
        model.Amount(capacity, used),
        frozenset(traits),
    )


def host(
    name: str,
    devices: Sequence[model.Device],
    traits: Collection[str] = (),
    **amounts: model.Amount,
) -> model.Host:
    """Make a host."""
    return model.Host(
        f"root-{name}",
        name,
        frozenset(traits),
        {**ROOT, **amounts},
        tuple(devices),
    )


def machine(
    name: str,
    topology: Topology | None = None,
    used: Collection[int] = (),
    reserved: Collection[int] = (),
    **amounts: model.Amount,
) -> model.Host:
    """Make a host of a known machine.

    :param topology: an HGX H100 with fabric partitions without it.
    :param used: numbers of its GPUs.
    """
    topology = topology or machines.hgx_h100_partitions()
    return host(
        name,
        [
            device(
                name,
                BUSES[bit],
                used=int(bit in used),
                capacity=int(bit not in reserved),
                traits=codec.format_traits(links),
            )
            for bit, links in enumerate(groups.decompose(topology))
        ],
        **amounts,
    )
