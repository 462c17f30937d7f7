# SPDX-License-Identifier: Apache-2.0

"""How many more servers fit on a cloud, alone and as a mix.

See :mod:`host_fit` for what is counted.
"""

from collections.abc import Collection
from collections.abc import Sequence
import dataclasses

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology.policy import LinkPolicy


@dataclasses.dataclass(frozen=True)
class Capacity:
    """How many servers of one flavor fit."""

    wanted: demand.Demand
    by_host: tuple[tuple[str, int], ...]
    """(host, servers), by name; without the hosts on which none fits."""
    in_mix: int = 0
    """Servers of it when all flavors take turns, see :func:`count_mix`."""

    @property
    def servers(self) -> int:
        """Over the cloud, if nothing else is started."""
        return sum(number for _, number in self.by_host)


def count_servers(
    hosts: Sequence[model.Host], demands: Sequence[demand.Demand]
) -> list[Capacity]:
    """Count for each flavor, alone and as a mix of all of them."""
    return [
        Capacity(
            wanted,
            tuple(
                (host.name, number)
                for host in hosts
                if (number := host_fit.count_fitting(host, wanted))
            ),
            in_mix,
        )
        for wanted, in_mix in zip(
            demands, count_mix(hosts, demands), strict=True
        )
    ]


def count_mix(
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
                if host_fit.count_fitting(host, wanted)
            ),
            key=lambda number: (
                -sum(device.is_free for device in hosts_left[number].devices)
            ),
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
        if host_fit.count_fitting(hosts_left[number], wanted):
            try:
                hosts_left[number] = add_server(hosts_left[number], wanted)
            except ValueError:
                # What its aliases or groups share is enough for each only.
                pass
            else:
                return True
        candidates.pop()
    return False


def add_server(host: model.Host, wanted: demand.Demand) -> model.Host:
    """Return the host as it is when one more server is on it.

    :raises ValueError: there is no room for it.
    """
    left = host.with_more_used(dict(wanted.amounts), {})
    for resource_class, number in wanted.amounts:
        if resource_class not in host.amounts:
            for device in left.list_devices(resource_class):
                if device.free >= number:
                    left = left.with_more_used({}, {device.uuid: number})
                    break
    taken: set[str] = set()
    # First what has the least choice: others might take all that it can have.
    for group in sorted(
        wanted.groups,
        key=lambda group: (
            sum(1 for _ in host_fit.list_providers(host, group)),
            -sum(number for _, number in group.amounts),
        ),
    ):
        left, provider = _take_group(left, group, taken)
        if wanted.is_isolated:
            taken.add(provider)
    for place, asked in sorted(
        enumerate(wanted.devices),
        key=lambda item: len(
            host.list_devices(
                item[1].alias.resource_class, item[1].alias.traits
            )
        ),
    ):
        policy = wanted.link_policy if place == 0 else None
        left = _take(left, asked, policy)
    return left


def _take_group(
    host: model.Host, group: demand.Group, taken: Collection[str]
) -> tuple[model.Host, str]:
    """Take a group of resources of the emptiest provider that has them.

    :param taken: providers that must be left alone.
    :returns: the host as it is then, and the provider.
    :raises ValueError: no provider has them.
    """
    fitting = [
        provider
        for provider in host_fit.list_providers(host, group)
        if provider.uuid not in taken
        and all(
            provider.amounts[name].free >= number
            for name, number in group.amounts
        )
    ]
    if not fitting:
        raise ValueError(f"{host.name}: no provider has {group.amounts}")
    asked = dict(group.amounts)
    emptiest = max(
        fitting,
        key=lambda provider: sum(provider.amounts[n].free for n in asked),
    )
    uuid = emptiest.uuid
    if uuid == host.uuid:
        return host.with_more_used(asked, {}), uuid
    return host.with_more_used({}, {uuid: sum(asked.values())}), uuid


def _take(
    host: model.Host, asked: demand.DeviceDemand, policy: LinkPolicy | None
) -> model.Host:
    found = host_fit.find_devices(host, asked)
    taken: dict[str, int] = {}
    if found.are_shared:
        for device in found.devices:
            left = asked.count - sum(taken.values())
            taken[device.uuid] = min(left, device.free)
    else:
        ranking = choice.rank_device_sets(
            found.topology, found.free, asked.count, policy
        )
        best = ranking.list_best_first(seed=0, limit=1)
        if not best:
            raise ValueError(f"{host.name}: no {asked.count} free devices")
        taken = {
            device.uuid: 1
            for bit, device in enumerate(found.devices)
            if best[0] >> bit & 1
        }
    return host.with_more_used({}, taken)
