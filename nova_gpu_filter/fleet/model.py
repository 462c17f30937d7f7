# SPDX-License-Identifier: Apache-2.0

"""Hosts, devices, servers and flavors of a cloud: plain, immutable data."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import enum
import functools
from typing import Final

import os_traits

from nova_gpu_filter.nova_rules import names
from nova_gpu_filter.nova_rules import our_traits
from nova_gpu_filter.nova_rules import resource_groups
from nova_gpu_filter.topology import codec

CELL_IS_DOWN: Final = "UNKNOWN"
"""Status of what is in a cell whose database Nova cannot reach."""


class State(enum.Enum):
    """What can be had of a device; the value is what people read."""

    FREE = "free"
    PARTLY = "partly used"
    """Some of its VFs are free."""
    USED = "used"
    RESERVED = "reserved"
    """By the operator, or after its one-time use."""
    CLEANING = "cleaning"
    """Reserved, and the agent of its host is about to clean it."""
    QUARANTINED = "quarantined"
    """Reserved until a person releases it."""
    NO_INVENTORY = "no inventory"
    """Placement has a provider, but nothing to allocate from it."""
    UNAVAILABLE = "unavailable"
    """Nobody has it, but nova-compute of its host is down or disabled."""


class Obstacle(enum.Enum):
    """Why nothing is built on a host; the value is what people read."""

    DISABLED = "disabled"
    DOWN = "down"
    """nova-compute has not reported for ``[DEFAULT]service_down_time``."""
    FORCED_DOWN = "forced down"
    """By the operator, whatever nova-compute reports."""
    CELL_DOWN = "cell down"
    """Nova cannot reach the database of its cell, and knows but its name."""
    UNKNOWN = "not in Nova"
    """Placement has a compute node that Nova does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class ComputeService:
    """The nova-compute of a host, as Nova's API describes it."""

    host: str
    """``[DEFAULT]host``: mostly, but not always, the hypervisor hostname."""
    zone: str
    """Availability zone."""
    obstacles: tuple[Obstacle, ...] = ()
    disabled_reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """What a provider has of one resource class, and what is used of it."""

    capacity: int
    """(total - reserved) * allocation_ratio, as Placement computes it."""
    used: int

    @property
    def free(self) -> int:
        """What can be allocated; 0 where more is used than there is."""
        return max(self.capacity - self.used, 0)

    def with_more_used(self, number: int) -> "Amount":
        """Return it as it is when so much more, or less, is used of it."""
        return Amount(self.capacity, self.used + number)


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Who has (a part of) a device."""

    consumer: str
    """UUID of the consumer in Placement: of a server, or of a migration."""
    project: str
    """UUID of the project."""
    amount: int
    """What it has of the device: 1, more for VFs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A PCI device that is a resource provider, a PF whose VFs are, or a GPU
    that is divided into mediated devices."""

    uuid: str
    """Of the resource provider."""
    name: str
    """Of the resource provider: ``<host>_<address>``, or
    ``<host>_pci_0000_1b_00_0`` of mediated devices."""
    address: str
    """PCI address, in lower case: ``0000:1b:00.0``."""
    resource_class: str | None
    """None for a provider without inventory."""
    amount: Amount
    traits: frozenset[str]
    generation: int = 0
    """Of the resource provider; another one after a change or allocation."""
    is_available: bool = True
    """Whether its host takes servers."""
    is_quarantined: bool = False
    """Whether it is kept from servers until a person releases it."""
    is_managed: bool = False
    """Whether an agent on its host cleans it after each use."""
    is_mediated: bool = False
    """Whether servers get mediated devices (vGPUs) of it, not the device."""
    is_reported_twice: bool = False
    """Whether Cyborg has a provider for it beside Nova's."""

    @property
    def is_reserved(self) -> bool:
        """Whether nobody can get it, for a reason that is not its use."""
        return self.resource_class is not None and not self.amount.capacity

    @property
    def state(self) -> State:
        """What can be had of it."""
        if self.resource_class is None:
            return State.NO_INVENTORY
        if self.amount.used:
            return State.PARTLY if self.free else State.USED
        if not self.amount.capacity:
            return self.reserved_as
        return State.FREE if self.is_available else State.UNAVAILABLE

    @property
    def reserved_as(self) -> State:
        """Why nobody can get it, if it is reserved."""
        if self.is_quarantined:
            return State.QUARANTINED
        return State.CLEANING if self.is_managed else State.RESERVED

    @property
    def free(self) -> int:
        """How much of it servers can still get, if its host takes any."""
        if self.resource_class is None or not self.is_available:
            return 0
        return self.amount.free

    @property
    def is_free(self) -> bool:
        """Whether a server can still get something of it."""
        return self.free > 0

    @property
    def model(self) -> str:
        """What people call it, as far as Placement knows.

        The product by the trait of ``nova-gpu-host config``, else the ids of
        which Nova made the resource class, else that; of class VGPU with the
        traits of operators, which tell the type.
        """
        for trait in self.other_traits:
            if trait.startswith(our_traits.MODEL):
                return trait.removeprefix(our_traits.MODEL).replace("_", " ")
        resource_class = self.resource_class or ""
        name = names.find_ids(resource_class) or resource_class.removeprefix(
            names.CUSTOM
        )
        if not self.is_mediated or name != resource_groups.VGPU:
            return name
        custom = ", ".join(
            trait.removeprefix(names.CUSTOM)
            for trait in self.other_traits
            if trait.startswith(names.CUSTOM)
        )
        return f"{name} {custom}" if custom else name

    @property
    def host(self) -> str:
        """Hypervisor hostname, as the name of the provider has it."""
        return self.name.rpartition("_pci_" if self.is_mediated else "_")[0]

    @property
    def label(self) -> str:
        """What operators type for it: its name, with small letters."""
        return self.host + self.name[len(self.host) :].lower()

    @property
    def is_of_cyborg(self) -> bool:
        """Whether Cyborg reports it; then Nova's scheduler must not."""
        return self.is_reported_twice or os_traits.OWNER_CYBORG in self.traits

    @property
    def other_traits(self) -> tuple[str, ...]:
        """Its traits but those that say its links, sorted."""
        return tuple(
            sorted(
                trait
                for trait in self.traits
                if not trait.startswith(codec.TRAIT_PREFIXES)
            )
        )

    @property
    def links(self) -> str:
        """Its links, in the form of the tag ``gpu_links``; empty for none.

        :raises LinkTextError: a trait with one of our prefixes cannot be read.
        """
        return codec.format_text(codec.parse_traits(self.name, self.traits))


@dataclasses.dataclass(frozen=True)
class Host:
    """A compute node that has devices."""

    uuid: str
    """Of its root provider."""
    name: str
    """Of its root provider: the hypervisor hostname."""
    traits: frozenset[str]
    amounts: Mapping[str, Amount]
    """Of its root provider, by resource class: VCPU, MEMORY_MB, DISK_GB."""
    devices: tuple[Device, ...]
    """In the order of their addresses."""
    service: ComputeService | None = None
    """None where Nova was not asked, or could not be."""
    is_bare_metal: bool = False
    """Whether it is a node of Ironic; its one device is the node itself."""

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Why nothing is built on it; empty for a host that takes servers."""
        found = () if self.service is None else self.service.obstacles
        is_disabled = os_traits.COMPUTE_STATUS_DISABLED in self.traits
        if is_disabled and Obstacle.DISABLED not in found:
            return (Obstacle.DISABLED, *found)
        return found

    @property
    def is_disabled(self) -> bool:
        """Whether its nova-compute is disabled, so that nothing is built."""
        return Obstacle.DISABLED in self.obstacles

    @property
    def is_down(self) -> bool:
        """Whether no nova-compute reports from it, as far as Nova knows."""
        return any(one is not Obstacle.DISABLED for one in self.obstacles)

    @property
    def status(self) -> str:
        """What people read: ``enabled``, or why nothing is built."""
        return ", ".join(o.value for o in self.obstacles) or "enabled"

    def with_service(self, service: ComputeService | None) -> "Host":
        """Return the host with what Nova says of its nova-compute, by which
        its devices are available or not."""
        host = dataclasses.replace(self, service=service)
        is_available = not host.obstacles
        if all(d.is_available is is_available for d in host.devices):
            return host
        devices = tuple(
            dataclasses.replace(device, is_available=is_available)
            for device in host.devices
        )
        return dataclasses.replace(host, devices=devices)

    def without_obstacles(self) -> "Host":
        """Return the host as it is when its nova-compute takes servers."""
        traits = self.traits - {os_traits.COMPUTE_STATUS_DISABLED}
        host = dataclasses.replace(self, traits=traits)
        service = self.service and dataclasses.replace(
            self.service, obstacles=()
        )
        return host.with_service(service)

    def with_more_used(
        self, amounts: Mapping[str, int], devices: Mapping[str, int]
    ) -> "Host":
        """Return the host as it is when so much more, or less, is used of it,
        by resource class, and of its devices, by UUID of the provider."""
        return dataclasses.replace(
            self,
            amounts={
                name: amount.with_more_used(amounts.get(name, 0))
                for name, amount in self.amounts.items()
            },
            devices=tuple(
                dataclasses.replace(
                    device,
                    amount=device.amount.with_more_used(devices[device.uuid]),
                )
                if device.uuid in devices
                else device
                for device in self.devices
            ),
        )

    @functools.cached_property
    def resource_classes(self) -> tuple[str, ...]:
        """The resource classes of its devices, sorted."""
        found = {device.resource_class for device in self.devices}
        return tuple(sorted(name for name in found if name is not None))

    @functools.cached_property
    def mediated_classes(self) -> frozenset[str]:
        """The resource classes of its mediated devices."""
        found = {d.resource_class for d in self.devices if d.is_mediated}
        return frozenset(name for name in found if name is not None)

    def list_devices(
        self, resource_class: str, traits: Iterable[str] = ()
    ) -> tuple[Device, ...]:
        """List the devices of a class that have all of some traits."""
        wanted = frozenset(traits)
        return tuple(
            device
            for device in self.devices
            if device.resource_class == resource_class
            and wanted <= device.traits
        )


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, as Nova reports it."""

    uuid: str
    name: str
    project: str
    status: str
    """``ACTIVE``, ``ERROR`` ...; ``UNKNOWN`` where its cell is down: then its
    name is its UUID, and its flavor says nothing."""
    host: str | None
    """Hypervisor hostname; None before it has one."""
    flavor: "Flavor"
    """As it was when the server was made."""
    fault: str | None = None
    zone: str | None = None
    """Availability zone; before it has a host, the one that was asked for."""
    image_properties: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )
    """Of its image then, where Nova was asked with
    :data:`.api.IMAGE_PROPERTIES_MICROVERSION`; none where it is of a volume.
    """

    @property
    def is_in_down_cell(self) -> bool:
        """Whether Nova knows no more than that it is there."""
        return self.status == CELL_IS_DOWN


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """A server on its way from one host to another; see :mod:`.holders`."""

    uuid: str
    server: str
    """UUID."""
    kind: str
    """``resize``, ``migration``, ``live-migration`` or ``evacuation``."""
    status: str
    """``finished`` while it waits to be confirmed; of an evacuation, ``done``
    until the source has removed what it has of the server."""
    source: str | None
    """Hypervisor hostname."""

    @property
    def waits(self) -> bool:
        """Whether it waits to be confirmed or reverted."""
        return self.status == "finished"

    @property
    def is_evacuation(self) -> bool:
        """Whether the source was down, so that nothing there was removed."""
        return self.kind == "evacuation"


@dataclasses.dataclass(frozen=True)
class Flavor:
    """What a server asks for."""

    name: str
    vcpus: int
    ram_mb: int
    disk_gb: int
    """Root, ephemeral and swap disk together, as Nova asks Placement."""
    extra_specs: Mapping[str, str]
    uuid: str | None = None
    """None for the flavor of a server, which Nova keeps without it."""
