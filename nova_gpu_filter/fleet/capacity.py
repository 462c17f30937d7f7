# SPDX-License-Identifier: Apache-2.0

"""How many more servers fit, alone and as a mix.

Counted are the resources of the compute node, its traits, its devices and
their links; not what Placement does not know: NUMA cells of guests, huge
pages, aggregates, server groups, quotas.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.policy import LinkPolicy

SHARED: frozenset[str] = frozenset({"DISK_GB"})
"""What a shared provider may have in place of the compute node."""


def how_many(host: model.Host, wanted: demand.Demand) -> int:
    """Count the servers of a flavor that fit on a host now, at once."""
    if not may_be_used(host, wanted):
        return 0
    bounds = [
        *_bound_by_host(host, wanted),
        *_bound_by_groups(host, wanted),
        *_bound_by_devices(host, wanted),
    ]
    return min(bounds, default=0)


def fits(host: model.Host, wanted: demand.Demand) -> bool:
    """Whether a server of a flavor fits on a host now."""
    return how_many(host, wanted) > 0


def may_be_used(host: model.Host, wanted: demand.Demand) -> bool:
    """Whether the compute node takes servers and has the traits asked for."""
    return (
        not host.obstacles
        and wanted.required <= _traits(host, wanted)
        and not wanted.forbidden & host.traits
    )


def _traits(host: model.Host, wanted: demand.Demand) -> frozenset[str]:
    """Return the traits that can meet those required of the host.

    A provider counts if the server takes something of it (granular request
    syntax of Placement): devices do for ``resources:<class>`` in a flavor.
    """
    classes = {name for name, _ in wanted.amounts} - host.amounts.keys()
    return host.traits.union(
        *(
            device.traits
            for name in classes
            for device in host.devices_of(name)
        )
    )


def missing_traits(host: model.Host, wanted: demand.Demand) -> frozenset[str]:
    """Return the traits asked for that are not there."""
    return wanted.required - _traits(host, wanted)


def find_devices(
    host: model.Host, asked: demand.DeviceDemand
) -> linked_devices.LinkedDevices:
    """Find the devices that an alias means, free or not, with their links."""
    found = host.devices_of(asked.alias.resource_class, asked.alias.traits)
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
                for device in host.devices_of(resource_class)
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """What can serve a group of resources: the compute node, or a device."""

    uuid: str
    amounts: Mapping[str, model.Amount]
    traits: frozenset[str]


def providers_of(host: model.Host, group: demand.Group) -> Iterator[Provider]:
    """List the providers that can serve a group of resources."""
    for provider in (
        Provider(host.uuid, host.amounts, host.traits),
        *(
            Provider(
                device.uuid,
                {device.resource_class: _available(device)},
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


def _available(device: model.Device) -> model.Amount:
    """Return what a device has; nothing on a host that takes no servers."""
    return device.amount if device.is_available else model.Amount(0, 0)


def _bound_by_groups(host: model.Host, wanted: demand.Demand) -> Iterator[int]:
    """Bound the number by each group of resources that wants one provider,
    and by all of them where these have to be different ones."""
    most_by_provider: dict[str, int] = {}
    for group in wanted.groups:
        total = 0
        for provider in providers_of(host, group):
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
        if any(device.amount.capacity > 1 for device in found.devices):
            # VFs: whichever they are, they have no links of their own.
            yield units(found.devices) // asked.count
        else:
            policy = wanted.link_policy if place == 0 else None
            yield count_sets(found.topology, found.free, asked.count, policy)
    for name, count in wanted.total.items():
        if name not in host.amounts and name not in SHARED:
            yield units(host.devices_of(name)) // count


def units(devices: Iterable[model.Device]) -> int:
    """Count what can be allocated of some devices: VFs one by one."""
    return sum(device.free for device in devices)


# Hosts of a kind with the same free devices are alike.
count_sets = functools.lru_cache(maxsize=8192)(satisfaction.count_sets)


@dataclasses.dataclass(frozen=True)
class Capacity:
    """How many servers of one flavor fit."""

    wanted: demand.Demand
    by_host: tuple[tuple[str, int], ...]
    """(host, servers), by name; without the hosts on which none fits."""
    in_mix: int = 0
    """Servers of it when all flavors take turns, see :func:`mix`."""

    @property
    def servers(self) -> int:
        """Over the cloud, if nothing else is started."""
        return sum(number for _, number in self.by_host)


def count_servers(
    hosts: Sequence[model.Host], demands: Sequence[demand.Demand]
) -> list[Capacity]:
    """Count for each flavor, alone and as a mix of all of them."""
    found = []
    mixed = mix(hosts, demands)
    for wanted, in_mix in zip(demands, mixed, strict=True):
        numbers = ((host.name, how_many(host, wanted)) for host in hosts)
        found.append(
            Capacity(
                wanted,
                tuple((name, number) for name, number in numbers if number),
                in_mix,
            )
        )
    return found


def mix(
    hosts: Sequence[model.Host], demands: Sequence[demand.Demand]
) -> list[int]:
    """Count the servers of each flavor when they come one of each in turn,
    those with most devices first.

    Each goes to a host that it fills best and takes the devices that our
    matcher would choose; a flavor that fits no more is left out of the turns.
    So it is what a scheduler with our weighers reaches, not the most that
    could be reached by moving servers.

    :returns: servers, in the order of the flavors.
    """
    counts = [0] * len(demands)
    hosts_left = list(hosts)
    # By flavor, the hosts that may still have room for it, fullest last.
    fitting = [
        sorted(
            (
                number
                for number, host in enumerate(hosts_left)
                if how_many(host, wanted)
            ),
            key=lambda number: -_free_devices(hosts_left[number]),
        )
        for wanted in demands
    ]
    # In each turn the large ones first: they find the fewest places.
    open_ = sorted(
        range(len(demands)),
        key=lambda place: -sum(d.count for d in demands[place].devices),
    )
    while open_:
        for place in list(open_):
            if _place(hosts_left, fitting[place], demands[place]):
                counts[place] += 1
            else:
                open_.remove(place)
    return counts


def _place(
    hosts_left: list[model.Host], candidates: list[int], wanted: demand.Demand
) -> bool:
    """Put a server on the last candidate that has room for it; those that
    have none are no candidates any more."""
    while candidates:
        number = candidates[-1]
        if how_many(hosts_left[number], wanted):
            try:
                hosts_left[number] = add_server(hosts_left[number], wanted)
            except ValueError:
                # What its aliases or groups share is enough for each only.
                pass
            else:
                return True
        candidates.pop()
    return False


def _free_devices(host: model.Host) -> int:
    return sum(device.is_free for device in host.devices)


def add_server(host: model.Host, wanted: demand.Demand) -> model.Host:
    """Return the host as it is when one more server is on it.

    :raises ValueError: there is no room for it.
    """
    amounts = dict(host.amounts)
    for resource_class, number in wanted.amounts:
        if resource_class in amounts:
            amount = amounts[resource_class]
            amounts[resource_class] = dataclasses.replace(
                amount, used=amount.used + number
            )
    left = dataclasses.replace(host, amounts=amounts)
    for resource_class, number in wanted.amounts:
        if resource_class not in amounts:
            left = _take_of_one(left, resource_class, number)
    taken: set[str] = set()
    # First what has the least choice: others might take all that it can have.
    for group in sorted(
        wanted.groups,
        key=lambda group: (
            sum(1 for _ in providers_of(host, group)),
            -sum(number for _, number in group.amounts),
        ),
    ):
        left, provider = _take_group(left, group, taken)
        if wanted.is_isolated:
            taken.add(provider)
    for place, asked in sorted(
        enumerate(wanted.devices),
        key=lambda item: len(
            host.devices_of(item[1].alias.resource_class, item[1].alias.traits)
        ),
    ):
        policy = wanted.link_policy if place == 0 else None
        left = _take(left, asked, policy)
    return left


def _take_of_one(
    host: model.Host, resource_class: str, number: int
) -> model.Host:
    """Take what a flavor asks for by ``resources:<class>`` of one device."""
    for device in host.devices_of(resource_class):
        if device.free >= number:
            return _use(host, {device.uuid: number})
    return host


def _take_group(
    host: model.Host, group: demand.Group, taken: Collection[str]
) -> tuple[model.Host, str]:
    """Take a group of resources of the emptiest provider that has them.

    :param taken: providers that must be left alone.
    :returns: the host as it is then, and the provider.
    :raises ValueError: no provider has them.
    """
    fitting = [
        (
            sum(provider.amounts[name].free for name, _ in group.amounts),
            provider,
        )
        for provider in providers_of(host, group)
        if provider.uuid not in taken
        and all(
            provider.amounts[name].free >= number
            for name, number in group.amounts
        )
    ]
    if not fitting:
        raise ValueError(f"{host.name}: no provider has {group.amounts}")
    _, found = max(fitting, key=lambda pair: pair[0])
    asked = dict(group.amounts)
    if found.uuid != host.uuid:
        return _use(host, {found.uuid: sum(asked.values())}), found.uuid
    amounts = {
        name: dataclasses.replace(
            amount, used=amount.used + asked.get(name, 0)
        )
        for name, amount in host.amounts.items()
    }
    return dataclasses.replace(host, amounts=amounts), found.uuid


def _take(
    host: model.Host, asked: demand.DeviceDemand, policy: LinkPolicy | None
) -> model.Host:
    found = find_devices(host, asked)
    if any(device.amount.capacity > 1 for device in found.devices):
        taken = _take_units(found.devices, asked.count)
    else:
        ranking = choice.rank(found.topology, found.free, asked.count, policy)
        best = ranking.ordered(seed=0, limit=1)
        if not best:
            raise ValueError(f"{host.name}: no {asked.count} free devices")
        taken = {
            device.uuid: 1
            for bit, device in enumerate(found.devices)
            if best[0] >> bit & 1
        }
    return _use(host, taken)


def _use(host: model.Host, taken: Mapping[str, int]) -> model.Host:
    return dataclasses.replace(
        host,
        devices=tuple(
            dataclasses.replace(
                device,
                amount=dataclasses.replace(
                    device.amount,
                    used=device.amount.used + taken[device.uuid],
                ),
            )
            if device.uuid in taken
            else device
            for device in host.devices
        ),
    )


def _take_units(devices: Iterable[model.Device], count: int) -> dict[str, int]:
    taken = {}
    for device in devices:
        if count and device.is_free:
            taken[device.uuid] = min(count, device.free)
            count -= taken[device.uuid]
    return taken
