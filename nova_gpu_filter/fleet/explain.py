# SPDX-License-Identifier: Apache-2.0

"""Why a host has room for a server, or why not, and what would change that.

Reasons about devices are those of our filter, in its words. What Placement
refuses before, the filter never sees; it is told in the same way.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Final
from typing import TypeAlias

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import shortage
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology.policy import LinkPolicy

OwnersOf: TypeAlias = Callable[[model.Device], Sequence[tuple[str, int]]]
"""Tells who has a device: (server, how much of it); empty if not known."""

_MOST_FREED: Final = 3
"""Servers that we think of moving away at once."""
_MOST_TRIES: Final = 256


@dataclasses.dataclass(frozen=True)
class Cure:
    """One change by which a server would fit."""

    rank: int
    """The smaller, the less it costs anybody."""
    text: str
    """Completes "it would fit": ``without train-1``."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What there is to say of one host."""

    host: str
    servers: int
    """How many fit now."""
    reasons: tuple[str, ...] = ()
    """Why none fits; all reasons, in the order in which they are met."""
    blockers: tuple[str, ...] = ()
    """Devices that are not free, with who has them."""
    cures: tuple[Cure, ...] = ()
    """Any one of them is enough; the cheapest first."""


def of(
    host: model.Host, wanted: demand.Demand, owners_of: OwnersOf
) -> Verdict:
    """Explain one host."""
    servers = capacity.how_many(host, wanted)
    if servers:
        return Verdict(host.name, servers)
    reasons = (*_of_host(host, wanted), *_of_devices(host, wanted)) or (
        "its aliases together ask for more devices than are free",
    )
    return Verdict(
        host.name,
        0,
        reasons,
        tuple(_blockers(host, wanted, owners_of)),
        tuple(
            sorted(_cures(host, wanted, owners_of), key=lambda cure: cure.rank)
        ),
    )


def _of_host(host: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say what Placement or Nova's own filters refuse."""
    if host.is_disabled:
        yield "nova-compute is disabled"
    for trait in sorted(wanted.required - host.traits):
        yield f"trait {trait} is required"
    for trait in sorted(wanted.forbidden & host.traits):
        yield f"trait {trait} is forbidden"
    for resource_class, number in wanted.amounts:
        amount = host.amounts.get(resource_class)
        if amount is None:
            if resource_class not in capacity.SHARED:
                yield f"no {resource_class}"
        elif amount.free < number:
            yield (
                f"too little {resource_class}: {wanted.name} asks for"
                f" {number}; {amount.free} free"
            )


def _of_devices(host: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say what our filter would log."""
    for place, asked in enumerate(wanted.devices):
        found = _linked(host, asked)
        units = capacity.units(found.devices)
        policy = wanted.link_policy if place == 0 else None
        if units < asked.count:
            refused = refusal.Refusal(
                refusal.Cause.TOO_FEW_DEVICES,
                request=asked.alias.name,
                asked=asked.count,
                specs=(_specs(asked),),
                free=units,
            )
        elif not _has_set(found, asked.count, policy):
            assert policy is not None, "any devices will do without"
            refused = refusal.Refusal(
                refusal.Cause.LINK,
                request=asked.alias.name,
                asked=asked.count,
                free=units,
                links=shortage.of(
                    found.topology,
                    found.free,
                    found.named,
                    asked.count,
                    policy.link,
                ),
            )
        else:
            continue
        yield refusal.describe(refused)


def _specs(asked: demand.DeviceDemand) -> tuple[tuple[str, str], ...]:
    """Name what the devices must be, as Placement is asked."""
    traits = ",".join(sorted(asked.alias.traits))
    return (
        ("resource_class", asked.alias.resource_class),
        *((("traits", traits),) if traits else ()),
    )


def _linked(
    host: model.Host, asked: demand.DeviceDemand
) -> linked.LinkedDevices:
    return linked.LinkedDevices.of(
        host.devices_of(asked.alias.resource_class, asked.alias.traits)
    )


def _has_set(
    found: linked.LinkedDevices, count: int, policy: LinkPolicy | None
) -> bool:
    if policy is None or not policy.required:
        return True
    if any(device.amount.capacity > 1 for device in found.devices):
        return True  # VFs, as in capacity.how_many
    return advice.meets(found.topology, found.free, count, policy.link)


def _blockers(
    host: model.Host, wanted: demand.Demand, owners_of: OwnersOf
) -> Iterator[str]:
    """Name the devices that are not free, and who has them."""
    for device in _meant(host, wanted):
        if device.is_free:
            continue
        names = [name for name, _ in owners_of(device)]
        yield f"{device.address} {', '.join(names) or device.state.value}"


def _meant(
    host: model.Host, wanted: demand.Demand
) -> tuple[model.Device, ...]:
    """List the devices that any alias of the flavor means."""
    meant = {
        device.uuid
        for asked in wanted.devices
        for device in _linked(host, asked).devices
    }
    return tuple(device for device in host.devices if device.uuid in meant)


def _cures(
    host: model.Host, wanted: demand.Demand, owners_of: OwnersOf
) -> Iterator[Cure]:
    if host.is_disabled:
        enabled = dataclasses.replace(
            host, traits=host.traits - {model.DISABLED_TRAIT}
        )
        if capacity.how_many(enabled, wanted):
            yield Cure(0, "with nova-compute enabled")
        return
    yield from _other_flavors(host, wanted)
    yield from _freed(host, wanted, owners_of)


def _other_flavors(host: model.Host, wanted: demand.Demand) -> Iterator[Cure]:
    """Say which weaker link, or how many devices, would fit."""
    if not wanted.devices:
        return
    lead, *others = wanted.devices
    policy = wanted.link_policy
    found = _linked(host, lead)
    if policy is not None and policy.required:
        for requirement in advice.requirements_that_fit(
            found.topology, found.free, lead.count
        ):
            weaker = dataclasses.replace(
                wanted, link_policy=LinkPolicy(requirement)
            )
            if capacity.how_many(host, weaker):
                yield Cure(1, f"with gpu:link={requirement.value}")
                break
        else:
            without = dataclasses.replace(wanted, link_policy=None)
            if capacity.how_many(host, without):
                yield Cure(2, "without gpu:link")
    for count in range(lead.count - 1, 0, -1):
        smaller = dataclasses.replace(
            wanted,
            devices=(dataclasses.replace(lead, count=count), *others),
        )
        if capacity.how_many(host, smaller):
            yield Cure(4, f"with {lead.alias.name}:{count}")
            break


def _freed(
    host: model.Host, wanted: demand.Demand, owners_of: OwnersOf
) -> Iterator[Cure]:
    """Say which servers would have to go: as few as can be, with as few
    devices as can be."""
    held: dict[str, dict[str, int]] = {}
    for device in _meant(host, wanted):
        for server, amount in owners_of(device):
            held.setdefault(server, {})[device.uuid] = amount
    servers = sorted(held, key=lambda server: (len(held[server]), server))
    sets = itertools.chain.from_iterable(
        itertools.combinations(servers, number)
        for number in range(1, _MOST_FREED + 1)
    )
    for gone in itertools.islice(sets, _MOST_TRIES):
        left = _without(host, [held[server] for server in gone])
        if capacity.how_many(left, wanted):
            yield Cure(2 + len(gone), f"without {' and '.join(gone)}")
            return


def _without(host: model.Host, gone: Iterable[dict[str, int]]) -> model.Host:
    """Return the host as it is when some servers have given their devices
    back."""
    given_back: dict[str, int] = {}
    for amounts in gone:
        for uuid, amount in amounts.items():
            given_back[uuid] = given_back.get(uuid, 0) + amount
    return dataclasses.replace(
        host,
        devices=tuple(
            dataclasses.replace(
                device,
                amount=dataclasses.replace(
                    device.amount,
                    used=device.amount.used - given_back.get(device.uuid, 0),
                ),
            )
            for device in host.devices
        ),
    )


def first_change(verdicts: Iterable[Verdict]) -> str | None:
    """Say what to change first: the cheapest cure, on the first host that has
    it.

    :returns: None when a server fits, or when we know no cure.
    """
    found = [
        (cure.rank, place, verdict.host, cure.text)
        for place, verdict in enumerate(verdicts)
        for cure in verdict.cures
    ]
    if not found:
        return None
    _, _, host, text = min(found)
    alike = len({entry[2] for entry in found if entry[3] == text})
    more = f" (and on {alike - 1} more)" if alike > 1 else ""
    return f"it would fit on {host}{more} {text}"


def summarize(verdicts: Sequence[Verdict]) -> str:
    """Say in one line on how many hosts a server fits, and what to do."""
    fitting = sum(bool(verdict.servers) for verdict in verdicts)
    servers = sum(verdict.servers for verdict in verdicts)
    if fitting:
        return (
            f"{servers} fit on {fitting} of {len(verdicts)} hosts; where none"
            " starts all the same, look at NUMA cells, aggregates, server"
            " groups and quota, which Placement does not tell"
        )
    first = first_change(verdicts)
    change = f"first to change: {first}" if first else "no single change helps"
    return f"fits on none of {len(verdicts)} hosts; {change}"
