# SPDX-License-Identifier: Apache-2.0

"""Who would have to give something back so that a server fits on a host."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Final

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holdings as holdings_
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict

_MOST_FREED: Final = 3
"""Holders of which all sets are tried; more are found one by one."""
_MOST_TRIES: Final = 256


def find_ways(
    host: model.Host,
    wanted: demand.Demand,
    holdings: Sequence[holdings_.Holding],
) -> list[tuple[holdings_.Holding, ...]]:
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
    tries = 0
    for number in range(1, _MOST_FREED + 1):
        found = []
        for gone in itertools.combinations(useful, number):
            tries += 1
            if tries > _MOST_TRIES:
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


def _price(way: Sequence[holdings_.Holding]) -> tuple[int, int]:
    return (
        sum(holding.rank for holding in way),
        sum(len(holding.devices) for holding in way),
    )


def name_blockers(
    host: model.Host,
    wanted: demand.Demand,
    ways: Sequence[Sequence[holdings_.Holding]],
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


def list_cures(
    ways: Sequence[Sequence[holdings_.Holding]],
) -> Iterator[verdict.Cure]:
    """Say what the cheapest way is, and each that needs nobody to leave."""
    for place, way in enumerate(ways):
        rank, loss = _price(way)
        texts = [holding.cure for holding in way]
        if (place == 0 or rank < holdings_.REMOVE) and None not in texts:
            rank += len(way) - 1
            yield verdict.Cure(
                rank, loss, _join_texts([text for text in texts if text])
            )


def _join_texts(texts: Sequence[str]) -> str:
    """Write ``without a and b`` for ``without a``, ``without b``."""
    word = "without "
    gone = [t.removeprefix(word) for t in texts if t.startswith(word)]
    parts = [text for text in texts if not text.startswith(word)]
    if gone:
        parts.append(word + " and ".join(gone))
    return " and ".join(parts)


def _give_back(
    host: model.Host, gone: Iterable[holdings_.Holding]
) -> model.Host:
    """Return the host as it is when some holders have given all back."""
    devices: dict[str, int] = {}
    amounts: dict[str, int] = {}
    released: set[str] = set()
    for holding in gone:
        if holding.rank == holdings_.RELEASE:
            released |= holding.devices.keys()
            continue
        for uuid, amount in holding.devices.items():
            devices[uuid] = devices.get(uuid, 0) + amount
        for name, amount in holding.amounts.items():
            amounts[name] = amounts.get(name, 0) + amount
    return dataclasses.replace(
        host,
        amounts={
            name: dataclasses.replace(
                amount, used=amount.used - amounts.get(name, 0)
            )
            for name, amount in host.amounts.items()
        },
        devices=tuple(
            dataclasses.replace(
                device,
                amount=model.Amount(
                    max(device.amount.capacity, int(device.uuid in released)),
                    device.amount.used - devices.get(device.uuid, 0),
                ),
            )
            for device in host.devices
        ),
    )
