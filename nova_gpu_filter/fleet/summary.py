# SPDX-License-Identifier: Apache-2.0

"""What a host has of each model, in numbers."""

from collections.abc import Iterable
import dataclasses

from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import fragmentation as fragmentation_


@dataclasses.dataclass(frozen=True)
class Counts:
    """Devices, or VFs where a device has several."""

    total: int
    free: int
    used: int
    reserved: int
    """Kept back, or given out once already."""
    unavailable: int = 0
    """Neither used nor reserved, on a host that takes no servers."""


@dataclasses.dataclass(frozen=True)
class ModelSummary:
    """The devices of one resource class on one host."""

    resource_class: str
    model: str
    """One name, or several separated by commas."""
    counts: Counts
    linked: linked_devices.LinkedDevices
    fragmentation: float
    """F, in GPUs."""

    @property
    def quarantined(self) -> int:
        """Providers that are kept from servers until a person releases them,
        those that a server still has included."""
        return sum(device.is_quarantined for device in self.linked.devices)


def count(devices: Iterable[model.Device]) -> Counts:
    """Count devices that have inventory by what can be had of them."""
    total = free = used = reserved = unavailable = 0
    for device in devices:
        if device.resource_class is None:
            continue
        amount = device.amount
        # With all of it reserved, Placement tells no number: one, if unused.
        there = max(amount.capacity, amount.used, 1)
        total += there
        free += device.free
        unavailable += amount.free - device.free
        used += amount.used
        reserved += there - amount.free - amount.used
    return Counts(total, free, used, reserved, unavailable)


def summarize(
    host: model.Host, mix: fragmentation_.Mix = fragmentation_.DEFAULT_MIX
) -> list[ModelSummary]:
    """Summarize a host, by resource class; F is that of a mix of requests."""
    found = []
    for resource_class in host.resource_classes:
        devices = linked_devices.LinkedDevices.from_devices(
            host.list_devices(resource_class)
        )
        names = sorted({device.model for device in devices.devices})
        found.append(
            ModelSummary(
                resource_class,
                ", ".join(names),
                count(devices.devices),
                devices,
                devices.measure_fragmentation(mix),
            )
        )
    return found
