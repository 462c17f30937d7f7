# SPDX-License-Identifier: Apache-2.0

"""The hosts of a simulated cloud, as nova-scheduler sees them."""

import bisect
from collections.abc import Sequence
from typing import Final
import uuid

from nova import objects
from nova.pci import stats
from nova.pci import whitelist
from nova.scheduler import host_manager

from nova_gpu_filter.nova_rules import device_types
from nova_gpu_filter.simulate import hosts_file
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import fragmentation
from nova_gpu_filter.topology import topology as topologies

# Every host gives each of its GPUs the same part of the rest, so that
# weighers which look at memory, CPUs or disks see what they would see where
# flavors are made by the number of GPUs.
RAM_MB_A_GPU: Final = 131072
VCPUS_A_GPU: Final = 16
DISK_GB_A_GPU: Final = 512


class Host:
    """A host state, and which of its GPUs are free."""

    def __init__(self, spec: hosts_file.HostSpec, number: int) -> None:
        """Make the host state as PCI in Placement lets it look.

        :param number: its place in the inventory.
        """
        self.kind = spec.kind
        self.number = number
        self.providers = tuple(
            str(uuid.UUID(int=number + 1 << 64 | bit + 1))
            for bit in range(spec.kind.gpus)
        )
        self.state = state = host_manager.HostState(
            spec.name, spec.name, str(uuid.UUID(int=1))
        )
        state.uuid = str(uuid.UUID(int=number + 1 << 64))
        state.total_usable_ram_mb = RAM_MB_A_GPU * spec.kind.gpus
        state.vcpus_total = VCPUS_A_GPU * spec.kind.gpus
        state.total_usable_disk_gb = DISK_GB_A_GPU * spec.kind.gpus
        state.cpu_allocation_ratio = 1.0
        state.ram_allocation_ratio = 1.0
        state.disk_allocation_ratio = 1.0
        state.hypervisor_version = 1
        # Without a whitelist Nova takes [pci]device_spec, which is of another
        # host.
        state.pci_stats = stats.PciDeviceStats(
            None, _make_pools(self), whitelist.Whitelist()
        )
        by_provider = {pool["rp_uuid"]: pool for pool in state.pci_stats.pools}
        self._pools = [by_provider[provider] for provider in self.providers]
        self.set_free(topologies.make_mask(range(spec.kind.gpus)) & ~spec.used)

    def make_mask(self, providers: Sequence[str]) -> int:
        """Return the GPUs of some resource providers."""
        return topologies.make_mask(map(self.providers.index, providers))

    def set_free(self, mask: int) -> None:
        """Bring the host state up to date, as nova-compute would.

        :param mask: the GPUs that no server has.
        """
        self.free = mask
        free = mask.bit_count()
        state = self.state
        # A pool that is used up stands in no list of pools.
        state.pci_stats.pools = [
            self._pools[bit] for bit in topologies.list_devices(mask)
        ]
        state.free_ram_mb = RAM_MB_A_GPU * free
        state.free_disk_mb = DISK_GB_A_GPU * 1024 * free
        state.vcpus_used = VCPUS_A_GPU * (self.kind.gpus - free)


def _make_pools(host: Host) -> "objects.PciDevicePoolList":
    """One pool a GPU, as a host with PCI in Placement reports them."""
    kind = host.kind
    found = []
    for bit, provider in enumerate(host.providers):
        tags = {
            "dev_type": device_types.PCI,
            "address": f"0000:{0x10 + bit:02x}:00.0",
            "rp_uuid": provider,
        }
        if text := kind.links[bit]:
            tags[codec.TAG] = text
        found.append(
            objects.PciDevicePool(
                vendor_id="10de",
                product_id="2330",
                numa_node=kind.numa[bit],
                count=1,
                tags=tags,
            )
        )
    return objects.PciDevicePoolList(objects=found)


class Cloud:
    """All hosts, with their sums kept up to date."""

    def __init__(
        self,
        specs: Sequence[hosts_file.HostSpec],
        mix: fragmentation.Mix = fragmentation.DEFAULT_MIX,
    ) -> None:
        """Make the hosts of an inventory.

        :param mix: request sizes for the fragmentation F.
        """
        self.hosts = [Host(spec, n) for n, spec in enumerate(specs)]
        self._mix = mix
        self.capacity = sum(host.kind.gpus for host in self.hosts)
        self.free = 0
        self._fragmentation = 0.0
        self._host_numbers_by_state: dict[
            tuple[hosts_file.HostKind, int], list[int]
        ] = {}
        for host in self.hosts:
            self._enter(host)

    @property
    def used(self) -> int:
        """GPUs that servers have."""
        return self.capacity - self.free

    @property
    def fragmentation(self) -> float:
        """Sum of F of all hosts, in GPUs."""
        # Without what many additions and subtractions leave; F has 9 digits.
        return abs(round(self._fragmentation, 6))

    def take(self, host: Host, mask: int) -> None:
        """Give free GPUs of a host to a server.

        :raises ValueError: one of them is not free.
        """
        if mask & ~host.free:
            raise ValueError(
                f"{host.state.host}: GPUs {mask:#x} of free {host.free:#x}"
            )
        self._change(host, host.free ^ mask)

    def give_back(self, host: Host, mask: int) -> None:
        """Take GPUs of a host back from a server.

        :raises ValueError: one of them is free.
        """
        if mask & host.free:
            raise ValueError(
                f"{host.state.host}: GPUs {mask:#x} of used, free"
                f" {host.free:#x}"
            )
        self._change(host, host.free | mask)

    def _change(self, host: Host, free: int) -> None:
        self._leave(host)
        host.set_free(free)
        self._enter(host)

    def list_distinct_hosts(
        self, model: str | None, k: int
    ) -> list[tuple[Host, int]]:
        """List the hosts that Placement would offer, one of each state.

        Hosts of one kind with the same free GPUs are alike to every filter
        and weigher, so that asking the first of them is asking them all.

        :param model: of the GPUs; None for any.
        :param k: GPUs that must be free.
        :returns: (first host, number of hosts) of each state, by place in the
            inventory.
        """
        found = [
            (numbers[0], len(numbers))
            for (kind, free), numbers in self._host_numbers_by_state.items()
            if free.bit_count() >= k and model in (None, kind.model)
        ]
        found.sort()
        return [(self.hosts[number], count) for number, count in found]

    def count_free(self, model: str | None) -> int:
        """Count the free GPUs of a model."""
        return sum(
            free.bit_count() * len(numbers)
            for (kind, free), numbers in self._host_numbers_by_state.items()
            if model in (None, kind.model)
        )

    def _enter(self, host: Host) -> None:
        state = (host.kind, host.free)
        bisect.insort(
            self._host_numbers_by_state.setdefault(state, []), host.number
        )
        self.free += host.free.bit_count()
        self._fragmentation += self._measure_fragmentation(host)

    def _leave(self, host: Host) -> None:
        state = (host.kind, host.free)
        numbers = self._host_numbers_by_state[state]
        del numbers[bisect.bisect_left(numbers, host.number)]
        if not numbers:
            del self._host_numbers_by_state[state]
        self.free -= host.free.bit_count()
        self._fragmentation -= self._measure_fragmentation(host)

    def _measure_fragmentation(self, host: Host) -> float:
        measure = fragmentation.build_measure(host.kind.topology, self._mix)
        return measure.measure(host.free)
