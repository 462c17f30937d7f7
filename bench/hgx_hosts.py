# SPDX-License-Identifier: Apache-2.0

"""Hosts like an HGX with GPUs in use, and their resource providers."""

from collections.abc import Iterator
import functools
import random
from typing import Any

GPUS = 8
RESOURCE_CLASS = "CUSTOM_GPU_H100"
USED = 0.4
"""Part of the GPUs that belongs to servers."""
VCPUS_A_GPU, RAM_MB_A_GPU = 8, 65536


@functools.lru_cache(maxsize=1)
def build_topology() -> Any:
    """Build how the GPUs of each host are linked."""
    from tests import machines

    return machines.hgx_h100_partitions()


@functools.lru_cache(maxsize=4)
def place_servers(hosts: int) -> tuple[int, ...]:
    """Place servers of 1, 2 and 4 GPUs on whole partitions of any hosts.

    :returns: the GPUs that are free then, for each host, as bits.
    """
    chance = random.Random(hosts)
    topology = build_topology()
    free = [topology.everything] * hosts
    left = int(hosts * GPUS * USED)
    # Some stay empty, or nothing of eight GPUs could be served.
    hosts_with_servers = range(max(hosts // 8, 1), hosts)
    while left > 0:
        host = chance.choice(hosts_with_servers)
        size = chance.choice((1, 1, 2, 4))
        whole = list(topology.list_whole_partitions(size, free[host]))
        if whole:
            free[host] ^= chance.choice(whole)
            left -= size
    return tuple(free)


def host_name(number: int) -> str:
    """Return the name of a host."""
    return f"hgx-{number:05}"


def device_name(number: int, gpu: int) -> str:
    """Return the name of the provider of a GPU."""
    return f"{host_name(number)}_0000:{0x10 + gpu:02X}:00.0"


def list_providers(hosts: int) -> Iterator[Any]:
    """List the resource providers of so many hosts."""
    import os_traits

    from nova_gpu_filter.topology import codec
    from nova_gpu_filter.topology import groups
    from tests.functional.placement import service

    links = groups.decompose(build_topology())
    # About as many as the libvirt driver reports; Nova 34 wants the owner.
    traits = tuple(
        name
        for name in sorted(os_traits.get_traits("COMPUTE_"))
        if name != os_traits.COMPUTE_STATUS_DISABLED
    )[:60]
    owned = (os_traits.OWNER_NOVA, os_traits.COMPUTE_MANAGED_PCI_DEVICE)
    for number, free in enumerate(place_servers(hosts)):
        name, used = host_name(number), GPUS - free.bit_count()
        yield service.Provider(
            name,
            inventories={
                "VCPU": service.Inventory(224, used=used * VCPUS_A_GPU),
                "MEMORY_MB": service.Inventory(
                    2 << 20, used=used * RAM_MB_A_GPU
                ),
                "DISK_GB": service.Inventory(20000),
            },
            traits=(*traits, os_traits.OWNER_NOVA),
        )
        for gpu in range(GPUS):
            yield service.Provider(
                device_name(number, gpu),
                name,
                {
                    RESOURCE_CLASS: service.Inventory(
                        1, used=0 if free >> gpu & 1 else 1
                    )
                },
                (*codec.format_traits(links[gpu]), *owned),
            )


def make_uuid(name: str) -> str:
    """Return the UUID of the provider of a name."""
    from tests.functional.placement import service

    return service.provider_uuid(name)
