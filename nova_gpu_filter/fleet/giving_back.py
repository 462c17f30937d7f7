# SPDX-License-Identifier: Apache-2.0

"""Who would have to give something back so that a server fits on a host."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import verdict

CONFIRM: Final = 0
"""Ranks of giving back: the smaller, the less it costs anybody."""
PURGE: Final = 1
REMOVE: Final = 3
RELEASE: Final = 5
NO_WAY: Final = 9
_END_OF: Final = {
    model.State.QUARANTINED: "released (openstack gpu device release)",
    model.State.CLEANING: "cleaned by the agent",
}
"""What ends it, by the state of a device that nobody can get."""
_MOST_FREED: Final = 3
"""Holders of which all sets are tried; more are found one by one."""
_MOST_TRIES: Final = 256


@dataclasses.dataclass(frozen=True)
class Holding:
    """What one holder has of one host."""

    label: str
    """``train-1``, ``infer-2 (resize, source)``, ``reserved``."""
    cure: str | None
    """What would give it back: ``without train-1``; None if we do not know."""
    rank: int
    devices: Mapping[str, int]
    """UUID of the provider -> amount."""
    amounts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Of the host itself, by resource class."""


def list_holdings(
    host: model.Host,
    held: holders.Holders,
    of_host: Mapping[str, Mapping[str, int]],
) -> list[Holding]:
    """List what everybody has of a host, with what is reserved.

    :param of_host: what consumers have of the host itself, see
        :func:`read_of_hosts`; empty where that does not matter.
    """
    by_consumer: dict[str, dict[str, int]] = {c: {} for c in of_host}
    reserved: dict[model.State, dict[str, int]] = {}
    unknown: dict[str, int] = {}
    for device in host.devices:
        owners = held.list_owners(device)
        for owner in owners:
            by_consumer.setdefault(owner.consumer, {})[device.uuid] = (
                owner.amount
            )
        missing = device.amount.used - sum(o.amount for o in owners)
        if missing > 0:
            unknown[device.uuid] = missing
        if device.is_reserved:
            # Also one that a server still has: nobody else gets it then.
            reserved.setdefault(device.reserved_as, {})[device.uuid] = 1
    found = [
        Holding(
            held.label(consumer, host.name),
            *_find_cure(held, consumer, host.name),
            devices,
            of_host.get(consumer, {}),
        )
        for consumer, devices in by_consumer.items()
    ]
    for state, devices in reserved.items():
        number = len(devices)
        found.append(
            Holding(
                state.value,
                f"with {number} {state.value} device{'s' * (number > 1)}"
                f" {_END_OF.get(state, 'released')}",
                RELEASE,
                devices,
            )
        )
    if unknown:
        found.append(Holding(model.State.USED.value, None, NO_WAY, unknown))
    return found


def _find_cure(
    held: holders.Holders, consumer: str, host: str
) -> tuple[str | None, int]:
    """Say what would give back what a consumer has of a host, and its rank."""
    holder, name = held.get_holder(consumer), held.name(consumer)
    if holder.migration is not None and holder.is_source_on(host):
        cure = _find_source_cure(holder.migration, name)
        return cure, NO_WAY if cure is None else CONFIRM
    if holder.is_soft_deleted:
        cure = f"with {name} purged (openstack server delete --force)"
        return cure, PURGE
    return f"without {held.label(consumer, host)}", REMOVE


def _find_source_cure(migration: model.Migration, name: str) -> str | None:
    """Say what ends a migration, so that its source is given back; None where
    it has failed: an operator has to look why."""
    if migration.is_evacuation:
        return f"with what is left of {name} removed, as nova-compute does"
    if migration.waits:
        return f"with the {migration.kind} of {name} confirmed"
    if migration.status in holders.FAILED:
        return None
    return f"with the {migration.kind} of {name} finished"


def read_of_hosts(
    get: api.Get, hosts: Sequence[model.Host], wanted: demand.Demand
) -> dict[str, dict[str, dict[str, int]]]:
    """Read what consumers have of hosts that have too little for a server.

    :returns: UUID of the host -> consumer -> resource class -> amount; without
        the hosts on which it does not matter.
    """
    short = [
        host.uuid
        for host in hosts
        if any(
            host.amounts[name].free < number
            for name, number in wanted.total.items()
            if name in host.amounts
        )
    ]

    def ask(uuid: str) -> dict[str, dict[str, int]]:
        return ownership.read_consumers(get, uuid)

    return dict(api.ask_all(ask, short))


def find_ways(
    host: model.Host, wanted: demand.Demand, holdings: Sequence[Holding]
) -> list[tuple[Holding, ...]]:
    """Find the smallest sets of holders without which a server fits.

    :returns: all of the smallest size, the cheapest first, if that is at most
        :data:`_MOST_FREED`; else one of which none can be left out; empty if
        nobody's giving back helps.
    """
    # Only who has something that is asked for.
    meant = {
        device.uuid
        for asked in wanted.devices
        for device in host_fit.find_devices(host, asked).devices
    } | {
        device.uuid
        for name in wanted.classes_without_alias
        for device in host.list_devices(name)
    }
    short = {
        name
        for name, number in wanted.total.items()
        if name in host.amounts and host.amounts[name].free < number
    }
    useful = sorted(
        (
            holding
            for holding in holdings
            if meant & holding.devices.keys() or short & holding.amounts.keys()
        ),
        key=lambda h: (h.rank, len(h.devices), h.label),
    )
    if not host_fit.fits(_give_back(host, useful), wanted):
        return []
    few = itertools.chain.from_iterable(
        itertools.combinations(useful, number)
        for number in range(1, _MOST_FREED + 1)
    )
    found: list[tuple[Holding, ...]] = []
    for gone in itertools.islice(few, _MOST_TRIES):
        if found and len(found[0]) < len(gone):
            break
        if host_fit.fits(_give_back(host, gone), wanted):
            found.append(gone)
    if found:
        return sorted(found, key=_price)
    needed = list(useful)
    for holding in reversed(useful):
        others = [other for other in needed if other is not holding]
        if host_fit.fits(_give_back(host, others), wanted):
            needed = others
    return [tuple(needed)]


def _price(way: Sequence[Holding]) -> tuple[int, int]:
    return (
        sum(holding.rank for holding in way),
        sum(len(holding.devices) for holding in way),
    )


def name_blockers(
    host: model.Host, wanted: demand.Demand, ways: Sequence[Sequence[Holding]]
) -> Iterator[str]:
    """Name each holder once, with what it has of what is asked for."""
    by_uuid = {
        device.uuid: device
        for device in host.devices
        if device.resource_class in wanted.total
    }
    by_label = {holding.label: holding for way in ways for holding in way}
    for label, holding in by_label.items():
        number = sum(
            amount
            for uuid, amount in holding.devices.items()
            if uuid in by_uuid
        )
        parts = [f"{number} device{'s' * (number != 1)}"] if number else []
        parts += [
            f"{holding.amounts[name]} {name}"
            for name, asked in wanted.total.items()
            if name in holding.amounts and host.amounts[name].free < asked
        ]
        yield f"{label}: {', '.join(parts)}"


def list_cures(ways: Sequence[Sequence[Holding]]) -> Iterator[verdict.Cure]:
    """Say what the cheapest way is, and each that needs nobody to leave."""
    for place, way in enumerate(ways):
        rank, loss = _price(way)
        texts = [holding.cure for holding in way if holding.cure is not None]
        if len(texts) == len(way) and (place == 0 or rank < REMOVE):
            rank += len(way) - 1
            yield verdict.Cure(rank, loss, _join_texts(texts))


def _join_texts(texts: Sequence[str]) -> str:
    """Write ``without a and b`` for ``without a``, ``without b``."""
    word = "without "
    gone = [t.removeprefix(word) for t in texts if t.startswith(word)]
    parts = [text for text in texts if not text.startswith(word)]
    if gone:
        parts.append(word + " and ".join(gone))
    return " and ".join(parts)


def _give_back(host: model.Host, gone: Iterable[Holding]) -> model.Host:
    """Return the host as it is when some holders have given all back."""
    devices: collections.Counter[str] = collections.Counter()
    amounts: collections.Counter[str] = collections.Counter()
    released: set[str] = set()
    for holding in gone:
        if holding.rank == RELEASE:
            released |= holding.devices.keys()
        else:
            devices.subtract(holding.devices)
            amounts.subtract(holding.amounts)
    left = host.with_more_used(amounts, devices)
    return dataclasses.replace(
        left,
        devices=tuple(
            dataclasses.replace(
                device, amount=dataclasses.replace(device.amount, capacity=1)
            )
            if device.uuid in released
            else device
            for device in left.devices
        ),
    )
