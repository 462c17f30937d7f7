# SPDX-License-Identifier: Apache-2.0

"""Why a host takes a server, or why not, and what would change that.

Every cause and every cure is tried in a copy of the host: what is named as a
cause keeps the server out, and with what is named as a cure it fits. Reasons
about devices are those of our filter, in its words; what Placement or another
filter refuses before, ours never sees.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Final

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holdings as holdings_
from nova_gpu_filter.fleet import linked
from nova_gpu_filter.fleet import model
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.pools import shortage
from nova_gpu_filter.topology import advice
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy

_MOST_FREED: Final = 3
"""Holders of which all sets are tried; more are found one by one."""
_MOST_TRIES: Final = 256

# The smaller, the less it costs anybody; see also holdings.
_OPEN: Final = 0
_WEAKER_LINK: Final = 1
_NO_LINK: Final = 2
_OTHER_SIZE: Final = 4
_NEVER: Final = "can never fit"


@dataclasses.dataclass(frozen=True, order=True)
class Cure:
    """One change by which a server would fit."""

    rank: int
    """The smaller, the less it costs anybody."""
    loss: int
    """Devices that others lose, or that the server does without."""
    text: str
    """Completes "it would fit": ``without train-1``."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """What keeps a server from a host, whatever is free on it.

    Its availability zone, for example, or the quota of the project.
    """

    reason: str
    cure: str
    rank: int = _OPEN


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What there is to say of one host."""

    host: str
    servers: int
    """How many fit now."""
    reasons: tuple[str, ...] = ()
    """What keeps the server out; all of it has to change."""
    blockers: tuple[str, ...] = ()
    """Who would have to give something back, with how much each has; where
    there are several ways, the holders of all of the smallest."""
    cures: tuple[Cure, ...] = ()
    """Any one of them is enough; the cheapest first."""
    can_fit: bool = True
    """Whether the server would fit on the host if it were empty."""


def of(
    host: model.Host,
    wanted: demand.Demand,
    holdings: Sequence[holdings_.Holding],
    gates: Sequence[Gate] = (),
) -> Verdict:
    """Explain one host.

    :param holdings: what others have of it.
    :param gates: what else refuses the server there.
    """
    servers = 0 if gates else capacity.how_many(host, wanted)
    if servers:
        return Verdict(host.name, servers)
    opened = _open(host, wanted)
    openings = [*_obstacles(host, wanted), *gates]
    fits = _fits(opened, wanted)
    if not fits and not _fits(_emptied(opened), wanted):
        return Verdict(
            host.name,
            0,
            tuple(_never(_emptied(opened), wanted)),
            cures=_sorted(openings, _other_flavors(opened, wanted)),
            can_fit=False,
        )
    reasons = [opening.reason for opening in openings]
    if fits:
        return Verdict(
            host.name, 0, tuple(reasons), cures=_sorted(openings, [None])
        )
    shortages = [*_of_host(opened, wanted), *_of_devices(opened, wanted)]
    reasons += shortages or [
        "its aliases together ask for more devices than are free"
    ]
    ways = _ways_to_free(opened, wanted, holdings)
    return Verdict(
        host.name,
        0,
        tuple(reasons),
        tuple(_blockers(opened, wanted, ways)),
        _sorted(
            openings,
            [*_other_flavors(opened, wanted), *_freed(opened, wanted, ways)],
        ),
    )


def _fits(host: model.Host, wanted: demand.Demand) -> bool:
    return capacity.how_many(host, wanted) > 0


def _sorted(
    openings: Sequence[Gate], cures: Iterable[Cure | None]
) -> tuple[Cure, ...]:
    """Put before each cure what has to change beside it."""
    before = [opening.cure for opening in openings]
    rank = sum(opening.rank for opening in openings)
    return tuple(
        sorted(
            Cure(
                rank + (cure.rank if cure else 0),
                cure.loss if cure else 0,
                " and ".join([*before, *([cure.text] if cure else [])]),
            )
            for cure in cures
        )
    )


# What keeps a server out whatever is free.


def _open(host: model.Host, wanted: demand.Demand) -> model.Host:
    """Return the host as it is when it takes servers and has the traits."""
    opened = host.without_obstacles()
    missing = capacity.missing_traits(opened, wanted)
    return dataclasses.replace(
        opened, traits=(opened.traits | missing) - wanted.forbidden
    )


def _obstacles(host: model.Host, wanted: demand.Demand) -> Iterator[Gate]:
    """Say what :func:`_open` changes."""
    for obstacle in host.obstacles:
        yield _OBSTACLES[obstacle]
    for trait in sorted(capacity.missing_traits(host, wanted)):
        yield Gate(f"trait {trait} is required", f"with trait {trait}", 1)
    for trait in sorted(wanted.forbidden & host.traits):
        yield Gate(f"trait {trait} is forbidden", f"without trait {trait}", 1)


_OBSTACLES: Final[Mapping[model.Obstacle, Gate]] = {
    model.Obstacle.DISABLED: Gate(
        "nova-compute is disabled", "with nova-compute enabled"
    ),
    model.Obstacle.DOWN: Gate("nova-compute is down", "with nova-compute up"),
    model.Obstacle.FORCED_DOWN: Gate(
        "nova-compute is forced down",
        "with nova-compute no longer forced down",
    ),
    model.Obstacle.UNKNOWN: Gate(
        "Nova has no such compute node",
        "with a nova-compute that reports it",
        1,
    ),
}


# What is not free.


def _of_host(host: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say what Placement refuses."""
    for resource_class, number in wanted.amounts:
        amount = host.amounts.get(resource_class)
        if amount is not None:
            free = amount.free
        elif resource_class in capacity.SHARED:
            continue
        else:
            devices = host.devices_of(resource_class)
            free = max((device.free for device in devices), default=0)
        if free < number:
            yield (
                f"too little {resource_class}: {wanted.name} asks for"
                f" {number}; {free} free"
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


# What the host could not give even if it were empty.


def _emptied(host: model.Host) -> model.Host:
    """Return the host as it is when nobody has anything of it."""
    return dataclasses.replace(
        host,
        amounts={
            name: dataclasses.replace(amount, used=0)
            for name, amount in host.amounts.items()
        },
        devices=tuple(
            dataclasses.replace(
                device,
                amount=model.Amount(
                    max(device.amount.capacity, device.amount.used, 1), 0
                ),
            )
            for device in host.devices
            if device.resource_class is not None
        ),
    )


def _never(empty: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say why a server does not fit on a host that is empty."""
    told = False
    for line in _of_host(empty, wanted):
        told = True
        yield f"{_NEVER}: {line.removesuffix(' free')} there"
    for place, asked in enumerate(wanted.devices):
        found = _linked(empty, asked)
        there = capacity.units(found.devices)
        policy = wanted.link_policy if place == 0 else None
        name = f"{asked.alias.name}:{asked.count}"
        if not there:
            specs = " ".join(f"{key}={value}" for key, value in _specs(asked))
            yield f"{_NEVER}: it has no {asked.alias.name} ({specs})"
        elif there < asked.count:
            yield f"{_NEVER}: {name} is asked for, and {there} are there"
        elif not _has_set(found, asked.count, policy):
            assert policy is not None, "any devices will do without"
            yield (
                f"{_NEVER}: {name} with gpu:link={policy.link.value} is asked"
                f" for, and {_what_links(found, policy.link)}"
            )
        else:
            continue
        told = True
    if not told:
        yield f"{_NEVER}: its aliases together ask for more than is there"


def _what_links(found: linked.LinkedDevices, requirement: Requirement) -> str:
    if requirement is Requirement.FABRIC:
        sizes = sorted(found.partitions())
        if not sizes:
            return "it has no fabric partitions"
        return f"fabric partitions have {', '.join(map(str, sizes))} devices"
    largest = advice.largest_set(
        found.topology, found.topology.everything, requirement
    ).bit_count()
    return f"at most {largest} have that link with each other"


# Who would have to give something back.


def _ways_to_free(
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
        for device in _linked(host, asked).devices
    } | {
        device.uuid
        for name, _ in wanted.amounts
        for device in host.devices_of(name)
    }
    short = {
        name
        for name, number in wanted.amounts
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
    if not _fits(_without(host, useful), wanted):
        return []
    tries = 0
    for number in range(1, _MOST_FREED + 1):
        found = []
        for gone in itertools.combinations(useful, number):
            tries += 1
            if tries > _MOST_TRIES:
                break
            if _fits(_without(host, gone), wanted):
                found.append(gone)
        if found:
            return sorted(found, key=_price)
    needed = list(useful)
    for holding in reversed(useful):
        others = [other for other in needed if other is not holding]
        if _fits(_without(host, others), wanted):
            needed = others
    return [tuple(needed)]


def _price(way: Sequence[holdings_.Holding]) -> tuple[int, int]:
    return (
        sum(holding.rank for holding in way),
        sum(len(holding.devices) for holding in way),
    )


def _blockers(
    host: model.Host,
    wanted: demand.Demand,
    ways: Sequence[Sequence[holdings_.Holding]],
) -> Iterator[str]:
    """Name each holder once, with what it has of what is asked for."""
    classes = {asked.alias.resource_class for asked in wanted.devices}
    classes |= {name for name, _ in wanted.amounts}
    by_uuid = {
        device.uuid: device
        for device in host.devices
        if device.resource_class in classes
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
            for name, asked in wanted.amounts
            if name in holding.amounts and host.amounts[name].free < asked
        ]
        yield f"{label}: {', '.join(parts)}"


def _freed(
    host: model.Host,
    wanted: demand.Demand,
    ways: Sequence[Sequence[holdings_.Holding]],
) -> Iterator[Cure]:
    """Say what the cheapest way is, and each that needs nobody to leave."""
    for place, way in enumerate(ways):
        rank, loss = _price(way)
        texts = [holding.cure for holding in way]
        if (place == 0 or rank < holdings_.REMOVE) and None not in texts:
            rank += len(way) - 1
            yield Cure(rank, loss, _joined([text for text in texts if text]))


def _joined(texts: Sequence[str]) -> str:
    """Write ``without a and b`` for ``without a``, ``without b``."""
    word = "without "
    gone = [t.removeprefix(word) for t in texts if t.startswith(word)]
    parts = [text for text in texts if not text.startswith(word)]
    if gone:
        parts.append(word + " and ".join(gone))
    return " and ".join(parts)


def _without(
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


# Which other flavor would fit.


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
            if _fits(host, weaker):
                yield Cure(
                    _WEAKER_LINK, 0, f"with gpu:link={requirement.value}"
                )
                break
        else:
            without = dataclasses.replace(wanted, link_policy=None)
            if _fits(host, without):
                yield Cure(_NO_LINK, 0, "without gpu:link")
    for counts in (range(lead.count - 1, 0, -1), _larger(found, wanted)):
        for count in counts:
            other = dataclasses.replace(
                wanted,
                devices=(dataclasses.replace(lead, count=count), *others),
            )
            if _fits(host, other):
                loss = abs(lead.count - count)
                yield Cure(
                    _OTHER_SIZE, loss, f"with {lead.alias.name}:{count}"
                )
                break


def _larger(
    found: linked.LinkedDevices, wanted: demand.Demand
) -> Iterator[int]:
    """List larger partitions where none has the size asked for."""
    count, policy = wanted.devices[0].count, wanted.link_policy
    if policy is None or policy.link is not Requirement.FABRIC:
        return
    sizes = sorted(found.partitions())
    if policy.required and count not in sizes:
        yield from (size for size in sizes if size > count)


# All hosts together.


def sort_key(verdict: Verdict) -> tuple[int, int, int, str]:
    """Order verdicts: where most fit, then where least has to change."""
    cheapest = min(verdict.cures, default=Cure(99, 0, ""))
    return -verdict.servers, cheapest.rank, cheapest.loss, verdict.host


def first_changes(verdicts: Sequence[Verdict]) -> list[str]:
    """Say what to change first: the cheapest cure, on the first host that has
    it; beside it the nearest size, where another one is needed anywhere."""
    found = [
        (cure, place, verdict.host)
        for place, verdict in enumerate(verdicts)
        for cure in verdict.cures
    ]
    if not found:
        return []
    chosen = [min(found)]
    sizes = [entry for entry in found if entry[0].rank == _OTHER_SIZE]
    if not any(verdict.can_fit for verdict in verdicts) and sizes:
        chosen.append(min(sizes))
    lines = []
    for cure, _, host in dict.fromkeys(chosen):
        alike = len({entry[2] for entry in found if entry[0] == cure})
        more = f" (and on {alike - 1} more)" if alike > 1 else ""
        lines.append(f"on {host}{more} {cure.text}")
    return lines


def summarize(verdicts: Sequence[Verdict]) -> str:
    """Say in one line on how many hosts a server fits, and what to do."""
    number = len(verdicts)
    hosts = f"{number} host{'s' * (number != 1)}"
    fitting = sum(bool(verdict.servers) for verdict in verdicts)
    servers = sum(verdict.servers for verdict in verdicts)
    if fitting:
        return (
            f"{servers} fit on {fitting} of {hosts}; where none"
            " starts all the same, see NUMA cells, huge pages and server"
            " groups, which no API shows"
        )
    changes = first_changes(verdicts)
    change = f"it would fit {', or '.join(changes)}"
    if any(verdict.can_fit for verdict in verdicts):
        if not changes:
            return f"fits on none of {hosts}; no single change helps"
        return f"fits on none of {hosts}; first to change: {change}"
    never = f"{_NEVER} on any of {hosts}"
    return f"{never}; nearest: {change}" if changes else never
