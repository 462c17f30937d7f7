# SPDX-License-Identifier: Apache-2.0

"""What is left of a host when one more server is on it."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.topology import choice
from nova_gpu_filter.topology.policy import LinkPolicy


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


def _take_of_one(
    host: model.Host, resource_class: str, number: int
) -> model.Host:
    """Take what a flavor asks for by ``resources:<class>`` of one device."""
    for device in host.list_devices(resource_class):
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
        for provider in host_fit.list_providers(host, group)
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
    found = host_fit.find_devices(host, asked)
    if any(device.amount.capacity > 1 for device in found.devices):
        taken = _take_units(found.devices, asked.count)
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
