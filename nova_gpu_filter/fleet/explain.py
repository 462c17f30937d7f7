# SPDX-License-Identifier: Apache-2.0

"""Why a host takes a server, or why not, and what would change that.

Every cause and every cure is tried in a copy of the host: what is named as a
cause keeps the server out, and with what is named as a cure it fits. What
Placement or another filter refuses before, our filter never sees.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import giving_back
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict
from nova_gpu_filter.pools import refusal
from nova_gpu_filter.topology import satisfaction
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.policy import LinkPolicy


def explain_host(
    host: model.Host,
    wanted: demand.Demand,
    holdings: Sequence[giving_back.Holding],
    gates: Sequence[verdict.Gate] = (),
) -> verdict.Verdict:
    """Explain one host.

    :param holdings: what others have of it.
    :param gates: what else refuses the server there.
    """
    servers = 0 if gates else host_fit.count_fitting(host, wanted)
    if servers:
        return verdict.Verdict(host.name, servers)
    opened = _open_host(host, wanted)
    openings = [*_list_obstacles(host, wanted), *gates]
    reasons = [opening.reason for opening in openings]
    if host_fit.fits(opened, wanted):
        return verdict.Verdict(
            host.name, 0, tuple(reasons), cures=_sort_cures(openings, [None])
        )
    others = _list_other_flavors(opened, wanted)
    empty = _make_empty(opened)
    if not host_fit.fits(empty, wanted):
        return verdict.Verdict(
            host.name,
            0,
            tuple(_describe_never(empty, wanted)),
            cures=_sort_cures(openings, others),
            can_fit=False,
        )
    reasons += _describe_shortages(opened, wanted)
    ways = giving_back.find_ways(opened, wanted, holdings)
    return verdict.Verdict(
        host.name,
        0,
        tuple(reasons),
        tuple(giving_back.name_blockers(opened, wanted, ways)),
        _sort_cures(openings, [*others, *giving_back.list_cures(ways)]),
    )


def _sort_cures(
    openings: Sequence[verdict.Gate], cures: Iterable[verdict.Cure | None]
) -> tuple[verdict.Cure, ...]:
    """Put before each cure what has to change beside it."""
    before = [opening.cure for opening in openings]
    rank = sum(opening.rank for opening in openings)
    return tuple(
        sorted(
            verdict.Cure(
                rank + (cure.rank if cure else 0),
                cure.loss if cure else 0,
                " and ".join([*before, *([cure.text] if cure else [])]),
            )
            for cure in cures
        )
    )


def _open_host(host: model.Host, wanted: demand.Demand) -> model.Host:
    """Return the host as it is when it takes servers and has the traits."""
    opened = host.without_obstacles()
    missing = host_fit.find_missing_traits(opened, wanted)
    return dataclasses.replace(
        opened, traits=(opened.traits | missing) - wanted.forbidden
    )


def _list_obstacles(
    host: model.Host, wanted: demand.Demand
) -> Iterator[verdict.Gate]:
    """Say what :func:`_open_host` changes."""
    for obstacle in host.obstacles:
        yield _OBSTACLES[obstacle]
    for trait in sorted(host_fit.find_missing_traits(host, wanted)):
        yield verdict.Gate(f"trait {trait} is required", f"with trait {trait}")
    for trait in sorted(wanted.forbidden & host.traits):
        yield verdict.Gate(
            f"trait {trait} is forbidden", f"without trait {trait}"
        )


_OBSTACLES: Final[Mapping[model.Obstacle, verdict.Gate]] = {
    model.Obstacle.DISABLED: verdict.Gate(
        "nova-compute is disabled", "with nova-compute enabled", verdict.OPEN
    ),
    model.Obstacle.DOWN: verdict.Gate(
        "nova-compute is down", "with nova-compute up", verdict.OPEN
    ),
    model.Obstacle.FORCED_DOWN: verdict.Gate(
        "nova-compute is forced down",
        "with nova-compute no longer forced down",
        verdict.OPEN,
    ),
    model.Obstacle.CELL_DOWN: verdict.Gate(
        "Nova does not reach the cell of its nova-compute",
        "with its cell up",
        verdict.OPEN,
    ),
    model.Obstacle.UNKNOWN: verdict.Gate(
        "Nova has no such compute node", "with a nova-compute that reports it"
    ),
}


def _describe_shortages(host: model.Host, wanted: demand.Demand) -> list[str]:
    """Say what is not free on a host that takes servers."""
    return [
        *_describe_host(host, wanted),
        *_describe_groups(host, wanted),
        *_describe_devices(host, wanted),
    ] or [_describe_together(wanted)]


def _describe_host(host: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say what Placement refuses."""
    for resource_class, number in wanted.amounts:
        amount = host.amounts.get(resource_class)
        if amount is not None:
            free = amount.free
        elif resource_class in host_fit.SHARED:
            continue
        else:
            devices = host.list_devices(resource_class)
            free = max((device.free for device in devices), default=0)
        if free < number:
            yield (
                f"too little {resource_class}: {wanted.name} asks for"
                f" {number}; {free} free"
            )


def _describe_groups(host: model.Host, wanted: demand.Demand) -> Iterator[str]:
    """Say which groups of resources no provider has free."""
    for group in wanted.groups:
        providers = list(host_fit.list_providers(host, group))
        for name, number in group.amounts:
            free = max((p.amounts[name].free for p in providers), default=0)
            if free < number:
                traits = ", ".join(
                    [
                        *sorted(group.required),
                        *(f"not {trait}" for trait in sorted(group.forbidden)),
                    ]
                )
                yield (
                    f"too little {name}{f' with {traits}' if traits else ''}:"
                    f" {wanted.name} asks for {number} of one provider"
                    f" (resources{group.suffix}); {free} free"
                )


def _find_short_aliases(
    host: model.Host, wanted: demand.Demand
) -> Iterator[
    tuple[
        demand.DeviceDemand, linked_devices.LinkedDevices, Requirement | None
    ]
]:
    """Find the aliases of which a host has too little free.

    :returns: (alias, the devices that it means, the link that too few of them
        have; None where there are too few of them).
    """
    for place, asked in enumerate(wanted.devices):
        found = host_fit.find_devices(host, asked)
        policy = wanted.link_policy if place == 0 else None
        if host_fit.count_units(found.devices) < asked.count:
            yield asked, found, None
        elif (
            policy is not None
            and policy.required
            and not found.are_shared
            and not host_fit.count_sets(
                found.topology, found.free, asked.count, policy
            )
        ):
            yield asked, found, policy.link


def _describe_devices(
    host: model.Host, wanted: demand.Demand
) -> Iterator[str]:
    """Say what our filter would log."""
    for asked, found, link in _find_short_aliases(host, wanted):
        yield refusal.describe(
            refusal.Refusal(
                refusal.Cause.TOO_FEW_DEVICES
                if link is None
                else refusal.Cause.LINK,
                request=asked.alias.name,
                asked=asked.count,
                specs=(_list_specs(asked),),
                free=host_fit.count_units(found.devices),
                links=None
                if link is None
                else refusal.find_link_shortage(
                    found.topology,
                    found.free,
                    found.list_addresses,
                    asked.count,
                    link,
                ),
            )
        )


def _list_specs(asked: demand.DeviceDemand) -> tuple[tuple[str, str], ...]:
    """Name what the devices must be, as Placement is asked."""
    traits = ",".join(sorted(asked.alias.traits))
    return (
        ("resource_class", asked.alias.resource_class),
        *((("traits", traits),) if traits else ()),
    )


def _describe_together(wanted: demand.Demand) -> str:
    """Say what is short though nothing is by itself."""
    if wanted.is_isolated and len(wanted.groups) > 1:
        return (
            f"its {len(wanted.groups)} groups of resources want different"
            " providers each (group_policy=isolate), and fewer have them free"
        )
    if wanted.devices:
        return "its aliases together ask for more than is free"
    return "its groups of resources together ask for more than is free"


def _make_empty(host: model.Host) -> model.Host:
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


def _describe_never(empty: model.Host, wanted: demand.Demand) -> list[str]:
    """Say why a server does not fit on a host that is empty."""
    reasons = [
        f"{line.removesuffix(' free')} there"
        for line in (
            *_describe_host(empty, wanted),
            *_describe_groups(empty, wanted),
        )
    ]
    for asked, found, link in _find_short_aliases(empty, wanted):
        there = host_fit.count_units(found.devices)
        name = f"{asked.alias.name}:{asked.count}"
        if link is not None:
            reasons.append(
                f"{name} with gpu:link={link.value} is asked for, and"
                f" {_describe_links(found, link)}"
            )
        elif there:
            reasons.append(f"{name} is asked for, and {there} are there")
        else:
            specs = " ".join(map("=".join, _list_specs(asked)))
            reasons.append(f"it has no {asked.alias.name} ({specs})")
    if not reasons:
        text = _describe_together(wanted).replace("is free", "is there")
        reasons.append(text.replace("have them free", "have them"))
    return [f"{verdict.NEVER}: {reason}" for reason in reasons]


def _describe_links(
    found: linked_devices.LinkedDevices, requirement: Requirement
) -> str:
    if requirement is Requirement.FABRIC:
        sizes = sorted(found.count_partitions())
        if not sizes:
            return "it has no fabric partitions"
        return f"fabric partitions have {', '.join(map(str, sizes))} devices"
    largest = satisfaction.find_largest_set(
        found.topology, found.topology.everything, requirement
    ).bit_count()
    return f"at most {largest} have that link with each other"


def _list_other_flavors(
    host: model.Host, wanted: demand.Demand
) -> Iterator[verdict.Cure]:
    """Say which flavor would fit: one with a weaker link, or with another
    number of devices."""
    if not wanted.devices:
        return
    lead, *others = wanted.devices
    policy = wanted.link_policy
    found = host_fit.find_devices(host, lead)
    larger: list[int] = []
    if policy is not None and policy.required:
        changes: list[tuple[LinkPolicy | None, verdict.Cure]] = [
            (
                LinkPolicy(weaker),
                verdict.Cure(
                    verdict.WEAKER_LINK, 0, f"with gpu:link={weaker.value}"
                ),
            )
            for weaker in satisfaction.list_met_requirements(
                found.topology, found.free, lead.count
            )
        ]
        no_link = verdict.Cure(verdict.NO_LINK, 0, "without gpu:link")
        for changed, cure in (*changes, (None, no_link)):
            other = dataclasses.replace(wanted, link_policy=changed)
            if host_fit.fits(host, other):
                yield cure
                break
        # Where no partition has the size asked for, a larger one may do.
        sizes = found.count_partitions().keys()
        if policy.link is Requirement.FABRIC and lead.count not in sizes:
            larger = sorted(size for size in sizes if size > lead.count)
    for counts in (range(lead.count - 1, 0, -1), larger):
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
