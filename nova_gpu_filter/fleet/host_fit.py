# SPDX-License-Identifier: Apache-2.0

"""How many servers of a flavor fit on a host.

Counted are the resources of the compute node, its traits, its devices and
their links; not what Placement does not know: NUMA cells of guests, huge
pages, aggregates, server groups, quotas.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import satisfaction

SHARED: frozenset[str] = frozenset({"DISK_GB"})
"""What a shared provider may have in place of the compute node."""


def count_fitting(host: model.Host, wanted: demand.Demand) -> int:
    """Count the servers of a flavor that fit on a host now, at once."""
    if (
        host.obstacles
        or find_missing_traits(host, wanted)
        or wanted.forbidden & host.traits
    ):
        return 0
    bounds = [
        *_bound_by_host(host, wanted),
        *_bound_by_groups(host, wanted),
        *_bound_by_devices(host, wanted),
    ]
    return min(bounds, default=0)


def fits(host: model.Host, wanted: demand.Demand) -> bool:
    """Whether a server of a flavor fits on a host now."""
    return count_fitting(host, wanted) > 0


def find_missing_traits(
    host: model.Host, wanted: demand.Demand
) -> frozenset[str]:
    """Return the traits that are required of the host and not there.

    Those of a provider count if the server takes something of it (granular
    request syntax of Placement): devices do for ``resources:<class>``.
    """
    classes = {name for name, _ in wanted.amounts} - host.amounts.keys()
    return wanted.required.difference(
        host.traits,
        *(
            device.traits
            for name in classes
            for device in host.list_devices(name)
        ),
    )


def find_devices(
    host: model.Host, asked: demand.DeviceDemand
) -> linked_devices.LinkedDevices:
    """Find the devices that an alias means, free or not, with their links."""
    found = host.list_devices(asked.alias.resource_class, asked.alias.traits)
    return linked_devices.LinkedDevices.from_devices(
        device for device in found if not device.is_mediated
    )


def _bound_by_host(host: model.Host, wanted: demand.Demand) -> Iterator[int]:
    for resource_class, number in wanted.amounts:
        amount = host.amounts.get(resource_class)
        if amount is not None:
            yield amount.free // number
        elif resource_class not in SHARED:
            # Placement takes one provider for it, whichever of the tree.
            yield sum(
                device.free // number
                for device in host.list_devices(resource_class)
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """What can serve a group of resources: the compute node, or a device."""

    uuid: str
    amounts: Mapping[str, model.Amount]
    traits: frozenset[str]


def list_providers(
    host: model.Host, group: demand.Group
) -> Iterator[Provider]:
    """List the providers that can serve a group of resources."""
    for provider in (
        Provider(host.uuid, host.amounts, host.traits),
        *(
            Provider(
                device.uuid,
                {device.resource_class: device.amount},
                device.traits,
            )
            for device in host.devices
            if device.resource_class is not None
        ),
    ):
        if (
            all(name in provider.amounts for name, _ in group.amounts)
            and group.required <= provider.traits
            and not group.forbidden & provider.traits
        ):
            yield provider


def _bound_by_groups(host: model.Host, wanted: demand.Demand) -> Iterator[int]:
    """Bound the number by each group of resources that wants one provider,
    and by all of them where these have to be different ones."""
    most_by_provider: dict[str, int] = {}
    for group in wanted.groups:
        total = 0
        for provider in list_providers(host, group):
            number = min(
                provider.amounts[name].free // asked
                for name, asked in group.amounts
            )
            total += number
            most = most_by_provider.get(provider.uuid, 0)
            most_by_provider[provider.uuid] = max(most, number)
        yield total
    if wanted.is_isolated and wanted.groups:
        yield _count_isolated(most_by_provider.values(), len(wanted.groups))


def _count_isolated(numbers: Collection[int], groups: int) -> int:
    """Bound the number of servers that want so many different providers.

    :param numbers: of how many servers each provider could have a group.
    """
    servers = sum(numbers) // groups
    while sum(min(most, servers) for most in numbers) < servers * groups:
        servers -= 1
    return servers


def _bound_by_devices(
    host: model.Host, wanted: demand.Demand
) -> Iterator[int]:
    """Bound the number by each alias, and by all of one class together.

    Aliases that share devices are so bounded from above only: one of them
    may take what the other needs.
    """
    for place, asked in enumerate(wanted.devices):
        found = find_devices(host, asked)
        if found.are_shared:
            yield count_units(found.devices) // asked.count
        else:
            policy = wanted.link_policy if place == 0 else None
            yield count_sets(found.topology, found.free, asked.count, policy)
    for name, count in wanted.total.items():
        if name not in host.amounts and name not in SHARED:
            yield count_units(host.list_devices(name)) // count


def count_units(devices: Iterable[model.Device]) -> int:
    """Count what can be allocated of some devices: VFs one by one."""
    return sum(device.free for device in devices)


# Hosts of a kind with the same free devices are alike.
count_sets = functools.lru_cache(maxsize=8192)(satisfaction.count_sets)
