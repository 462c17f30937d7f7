# SPDX-License-Identifier: Apache-2.0

"""What would make a server fit on a host.

Another flavor, or somebody who gives something back.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Final

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holdings as holdings_
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy

_MOST_FREED: Final = 3
"""Holders of which all sets are tried; more are found one by one."""
_MOST_TRIES: Final = 256


def list_other_flavors(
    host: model.Host, wanted: demand.Demand
) -> Iterator[verdict.Cure]:
    """Say which flavor would fit: one with a weaker link, or with another
    number of devices."""
    if not wanted.devices:
        return
    lead, *others = wanted.devices
    policy = wanted.link_policy
    found = host_fit.find_devices(host, lead)
    if policy is not None and policy.required:
        for requirement in advice.list_met_requirements(
            found.topology, found.free, lead.count
        ):
            weaker = dataclasses.replace(
                wanted, link_policy=LinkPolicy(requirement)
            )
            if host_fit.fits(host, weaker):
                yield verdict.Cure(
                    verdict.WEAKER_LINK,
                    0,
                    f"with gpu:link={requirement.value}",
                )
                break
        else:
            without = dataclasses.replace(wanted, link_policy=None)
            if host_fit.fits(host, without):
                yield verdict.Cure(verdict.NO_LINK, 0, "without gpu:link")
    for counts in (range(lead.count - 1, 0, -1), _list_larger(found, wanted)):
        for count in counts:
            other = dataclasses.replace(
                wanted,
                devices=(dataclasses.replace(lead, count=count), *others),
            )
            if host_fit.fits(host, other):
                loss = abs(lead.count - count)
                yield verdict.Cure(
                    verdict.OTHER_SIZE, loss, f"with {lead.alias.name}:{count}"
                )
                break


def _list_larger(
    found: linked_devices.LinkedDevices, wanted: demand.Demand
) -> Iterator[int]:
    """List larger partitions where none has the size asked for."""
    count, policy = wanted.devices[0].count, wanted.link_policy
    if policy is None or policy.link is not Requirement.FABRIC:
        return
    sizes = sorted(found.count_partitions())
    if policy.required and count not in sizes:
        yield from (size for size in sizes if size > count)


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
    few = itertools.chain.from_iterable(
        itertools.combinations(useful, number)
        for number in range(1, _MOST_FREED + 1)
    )
    found: list[tuple[holdings_.Holding, ...]] = []
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


def list_ways(
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
    devices: collections.Counter[str] = collections.Counter()
    amounts: collections.Counter[str] = collections.Counter()
    released: set[str] = set()
    for holding in gone:
        if holding.rank == holdings_.RELEASE:
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
