# SPDX-License-Identifier: Apache-2.0

"""What each server has of a host, as what could be given back."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership

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
    """Say what ends a migration, so that its source is given back.

    :returns: None where it has failed: an operator has to look why.
    """
    if migration.is_evacuation:
        return f"with what is left of {name} removed, as nova-compute does"
    if migration.waits:
        return f"with the {migration.kind} of {name} confirmed"
    if migration.status in ("error", "failed"):
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
