# SPDX-License-Identifier: Apache-2.0

"""Takes devices out of Placement's offers, and says there why.

Facts of Nova 34 and Placement 16 that this rests on: ``reserved`` that was set
from outside stays through periodic tasks and restarts of nova-compute, since
it does not write the field unless the device is of one-time use and in use
(nova/compute/pci_placement_translator.py, has_inventory_changed in
nova/compute/provider_tree.py); a trait would be gone. Of the aggregates of a
provider nova-compute writes only what it has changed itself, and it changes
none (update_from_provider_tree in nova/scheduler/client/report.py). So the
mark is an aggregate of Placement, which has no counterpart in Nova.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import enum
from typing import Any
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import model

TRIES: Final = 8
"""How often a write is tried that another one was faster than."""


class Mark(enum.StrEnum):
    """What an aggregate says of the providers in it; the value is its UUID,
    arbitrary and the same in every cloud."""

    MANAGED = "7f5d6c9a-8f0e-5d7b-9f2e-6a1c0f3b6e01"
    """An agent on the host cleans the device after each use."""
    QUARANTINED = "7f5d6c9a-8f0e-5d7b-9f2e-6a1c0f3b6e02"
    """Nobody gets it until a person says so."""
    RELEASE_ASKED = "7f5d6c9a-8f0e-5d7b-9f2e-6a1c0f3b6e03"
    """A person has said so; the agent has still to clean it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """What a provider of devices has, and what is said of it."""

    uuid: str
    generation: int
    resource_class: str | None
    """Nova gives a device one class; None: it has no inventory."""
    fields: dict[str, Any]
    """As Placement has them: ``total``, ``reserved``, ``max_unit`` ..."""
    aggregates: frozenset[str]

    @property
    def total(self) -> int:
        """How many devices there are: 1, or the VFs of a PF."""
        return int(self.fields.get("total", 0))

    @property
    def is_reserved(self) -> bool:
        """Whether nothing of it is offered."""
        return int(self.fields.get("reserved", 0)) >= self.total

    def has(self, mark: Mark) -> bool:
        """Whether it bears a mark."""
        return mark in self.aggregates


def read(get: api.Get, uuid: str) -> Inventory:
    """Read a provider: two requests.

    :raises FleetError: Placement does not answer, or has no such provider.
    """
    path = f"/resource_providers/{uuid}"
    marks = get(f"{path}/aggregates")
    # After the aggregates, so that a write that is based on both fails where
    # these have changed in between.
    found = get(f"{path}/inventories")
    generation = marks["resource_provider_generation"]
    inventories: dict[str, Any] = found["inventories"]
    resource_class = min(inventories, default=None)
    return Inventory(
        uuid,
        generation,
        resource_class,
        inventories[resource_class] if resource_class else {},
        frozenset(marks["aggregates"]),
    )


def reserve(get: api.Get, send: api.Send, uuid: str) -> bool:
    """Have Placement offer nothing of a provider; what is in use stays so.

    :returns: whether it had to be changed.
    :raises FleetError: it was not done.
    """
    return _change(
        get, send, uuid, lambda found: _set_reserved(found, found.total)
    )


def offer(get: api.Get, send: api.Send, uuid: str) -> bool:
    """Have Placement offer a provider again, unless it is quarantined.

    :returns: whether it is offered now.
    :raises FleetError: it was not done.
    """
    refused = False

    def change(found: Inventory) -> _Write | None:
        nonlocal refused
        refused = found.has(Mark.QUARANTINED)
        return None if refused else _set_reserved(found, 0)

    _change(get, send, uuid, change)
    return not refused


def change_aggregates(
    get: api.Get,
    send: api.Send,
    uuid: str,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
) -> bool:
    """Put a provider into aggregates and out of others, in one write.

    :param add: UUIDs, or marks.
    :returns: whether it had to be changed.
    :raises FleetError: it was not done.
    """

    def change(found: Inventory) -> _Write | None:
        wanted = found.aggregates.union(add).difference(remove)
        if wanted == found.aggregates:
            return None
        return (
            f"/resource_providers/{found.uuid}/aggregates",
            {
                "aggregates": sorted(wanted),
                "resource_provider_generation": found.generation,
            },
        )

    return _change(get, send, uuid, change)


def quarantine(get: api.Get, send: api.Send, uuid: str) -> bool:
    """Quarantine a provider; the server that has it goes on.

    The mark comes first: what is reserved without one would be cleaned and
    offered again by an agent.

    :returns: whether anything had to be changed.
    :raises FleetError: it was not done, or not wholly: do it again.
    """
    marked = change_aggregates(
        get, send, uuid, add=[Mark.QUARANTINED], remove=[Mark.RELEASE_ASKED]
    )
    return reserve(get, send, uuid) or marked


def release(get: api.Get, send: api.Send, uuid: str) -> bool:
    """End the quarantine of a provider.

    Where an agent manages the device it is asked to clean and to offer
    it; elsewhere it is offered at once.

    :returns: whether an agent was asked.
    :raises FleetError: it was not done, or not wholly: do it again.
    """
    is_managed = read(get, uuid).has(Mark.MANAGED)
    change_aggregates(
        get,
        send,
        uuid,
        add=[Mark.RELEASE_ASKED] if is_managed else [],
        remove=[Mark.QUARANTINED],
    )
    if not is_managed:
        offer(get, send, uuid)
    return is_managed


def read_marked(get: api.Get, wanted: Mark) -> frozenset[str]:
    """Read which providers of the cloud bear a mark: one request."""
    found = get(f"/resource_providers?member_of={wanted.value}")
    return frozenset(one["uuid"] for one in found["resource_providers"])


def assign(
    get: api.Get, hosts: tuple[model.Host, ...]
) -> tuple[model.Host, ...]:
    """Add to devices that are reserved why they are, as far as it is said.

    Two requests for a cloud; none where nothing is reserved.

    :raises FleetError: Placement does not answer.
    """
    if not any(d.is_reserved for host in hosts for d in host.devices):
        return hosts
    quarantined = read_marked(get, Mark.QUARANTINED)
    managed = read_marked(get, Mark.MANAGED)
    return tuple(
        dataclasses.replace(
            host,
            devices=tuple(
                dataclasses.replace(
                    device,
                    is_quarantined=device.uuid in quarantined,
                    is_managed=device.uuid in managed,
                )
                for device in host.devices
            ),
        )
        for host in hosts
    )


_Write = tuple[str, dict[str, Any]]


def _set_reserved(found: Inventory, reserved: int) -> _Write | None:
    if (
        found.resource_class is None
        or found.fields.get("reserved", 0) == reserved
    ):
        return None
    return (
        f"/resource_providers/{found.uuid}/inventories/{found.resource_class}",
        {
            # What is left out would become a default.
            **found.fields,
            "reserved": reserved,
            "resource_provider_generation": found.generation,
        },
    )


def _change(
    get: api.Get,
    send: api.Send,
    uuid: str,
    change: Callable[[Inventory], _Write | None],
) -> bool:
    """Read a provider, and write what follows; again where it has changed."""
    left = TRIES
    while (write := change(read(get, uuid))) is not None:
        left -= 1
        try:
            send(*write)
        except errors.Conflict:
            # nova-compute, or a claim: what is to be written is made anew.
            if not left:
                raise
        else:
            return True
    return False
