# SPDX-License-Identifier: Apache-2.0

"""Reads what Placement, libvirt and sysfs say of the devices."""

from collections.abc import Container
from collections.abc import Mapping
from collections.abc import Set

from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import states
from nova_gpu_filter.fleet.reserving import Mark


class Observer:
    """Sees who has each device, and whether it is there."""

    def __init__(
        self,
        placement: providers_lib.Providers,
        domains: domains_lib.Domains,
        bus: bus_lib.Bus,
        all_devices: bool,
    ) -> None:
        self._placement = placement
        self._domains = domains
        self._bus = bus
        self._all_devices = all_devices
        self.providers: Mapping[str, providers_lib.Provider] = {}
        """Of the devices that are managed, by address."""
        self.all_providers: Mapping[str, providers_lib.Provider] = {}
        """Those that are not managed as well."""
        self._holders: Mapping[str, str] = {}
        self._dead: frozenset[str] = frozenset()

    def read(self, known: Container[str], cleaning: Set[str]) -> None:
        """Read all three.

        :param known: addresses of the devices that the ledger has.
        :param cleaning: those of devices that are being reset: whether they
            are there is not asked.
        :raises GpuFilterError: one of the three cannot be read.
        """
        self.all_providers = self._placement.read()
        self.providers = {
            address: provider
            for address, provider in self.all_providers.items()
            # What was managed once still is: its state is not forgotten
            # with a change of device_spec.
            if provider.is_one_time_use
            or self._all_devices
            or address in known
        }
        self._holders = self._domains.read_holders()
        self._dead = self._bus.find_dead(set(self.providers) - cleaning)

    def is_held(self, provider: providers_lib.Provider) -> bool:
        """Whether a domain or an allocation has a device."""
        return provider.address in self._holders or bool(provider.consumers)

    def is_shared(self, provider: providers_lib.Provider) -> bool:
        """Whether VFs of the device are given away, and not the device."""
        return provider.inventory.total != 1 or self._bus.has_vfs(
            provider.address
        )

    def observe(
        self,
        provider: providers_lib.Provider,
        is_one_time_use: bool,
        doubt: str | None,
    ) -> states.Observation:
        """Say what was seen of one device; see :class:`states.Observation`."""
        guest = self._holders.get(provider.address)
        consumer = next(iter(provider.consumers), None)
        if self.is_shared(provider):
            guest = consumer = None
        has = provider.inventory.has
        return states.Observation(
            guest=guest,
            consumer=consumer,
            is_reserved=provider.inventory.is_reserved,
            is_marked=has(Mark.QUARANTINED) and not has(Mark.RELEASE_ASKED),
            is_present=provider.address not in self._dead,
            is_one_time_use=is_one_time_use,
            doubt=doubt,
        )
