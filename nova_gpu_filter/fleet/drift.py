# SPDX-License-Identifier: Apache-2.0

"""What Placement, Nova, flavors and aliases disagree on."""

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import enum

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.nova_rules.names import ONE_TIME_USE


class Kind(enum.Enum):
    """What kind of disagreement; the value is what operators read."""

    ALIAS_WITHOUT_DEVICE = "alias without device"
    FLAVOR = "flavor"
    HOST_NOT_IN_NOVA = "host not in Nova"
    TWO_OWNERS = "configured for Cyborg as well"
    TWO_WAYS = "given away in two ways"
    NO_INVENTORY = "provider without inventory"
    OTHER_THAN_PEERS = "other than its peers"
    LINKS = "links cannot be read"
    OVERUSED = "usage above inventory"
    RESERVED = "reserved without a reason"
    NO_SERVER = "allocation without server"
    TOO_FEW = "server with too few devices"


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """One disagreement."""

    kind: Kind
    subject: str
    """The provider, server, alias, flavor or host."""
    text: str
    """What is wrong, and what to do."""


@dataclasses.dataclass(frozen=True)
class Cloud:
    """What was read of a cloud."""

    hosts: Sequence[model.Host]
    owners: ownership.Owners
    servers: Mapping[str, model.Server]
    """All of them, by UUID."""
    flavors: Sequence[model.Flavor]
    hypervisors: Collection[str]
    """UUIDs of the compute nodes that Nova knows."""
    holders: holders.Holders
    """Who the owners are; migrations hold allocations until they are done."""
    totals: Mapping[str, int]
    """Inventories of the devices with more usage than capacity, by UUID of
    the provider: what is reserved is in them."""
    aliases: Mapping[str, Alias]
    alias_source: str
    """Where they come from; without any, nothing is said of aliases."""


def find(cloud: Cloud) -> list[Disagreement]:
    """Find everything that differs, by kind."""
    found = [
        *_check_aliases(cloud),
        *_check_flavors(cloud),
        *_check_hosts(cloud),
        *_compare_peers(cloud.hosts),
        *_check_consumers(cloud),
        *_check_servers(cloud),
    ]
    order = list(Kind)
    return sorted(found, key=lambda f: (order.index(f.kind), f.subject))


def _check_aliases(cloud: Cloud) -> Iterator[Disagreement]:
    for alias in cloud.aliases.values():
        if any(
            host.list_devices(alias.resource_class, alias.traits)
            for host in cloud.hosts
        ):
            continue
        traits = "".join(f" and {name}" for name in sorted(alias.traits))
        yield Disagreement(
            Kind.ALIAS_WITHOUT_DEVICE,
            alias.name,
            f"no provider has {alias.resource_class}{traits}: correct the"
            " alias, or [pci]device_spec of the compute nodes",
        )


def _check_flavors(cloud: Cloud) -> Iterator[Disagreement]:
    if not cloud.aliases:
        return
    for flavor in cloud.flavors:
        if extra_specs.ALIAS_KEY not in flavor.extra_specs:
            continue
        try:
            demand.calculate(flavor, cloud.aliases, cloud.alias_source)
        except errors.NoAlias as exc:
            yield Disagreement(
                Kind.FLAVOR,
                flavor.name,
                f"asks for alias {exc.alias}, which is not in"
                f" {cloud.alias_source}: nova-api refuses such servers",
            )
        except errors.BadFlavor as exc:
            yield Disagreement(Kind.FLAVOR, flavor.name, exc.problem)


def _check_hosts(cloud: Cloud) -> Iterator[Disagreement]:
    for host in cloud.hosts:
        if (
            host.uuid not in cloud.hypervisors
            and model.Obstacle.CELL_DOWN not in host.obstacles
        ):
            yield Disagreement(
                Kind.HOST_NOT_IN_NOVA,
                host.name,
                f"Nova has no compute node {host.uuid}: if the host is gone,"
                " remove its providers (openstack resource provider delete),"
                " children first",
            )
        whole = {
            device.address
            for device in host.devices
            if not device.is_mediated and device.amount.capacity
        }
        for device in host.devices:
            total = cloud.totals.get(device.uuid)
            for kind, text in _check_device(device, whole, total):
                yield Disagreement(kind, device.name, text)
        problem = linked_devices.LinkedDevices.from_devices(
            host.devices
        ).problem
        if problem is not None:
            yield Disagreement(
                Kind.LINKS,
                host.name,
                f"{problem}; the devices of this host count as not linked",
            )


def _check_device(
    device: model.Device, whole: Collection[str], total: int | None
) -> Iterator[tuple[Kind, str]]:
    """Say what is wrong with a device.

    :param whole: addresses of the devices of its host that servers get whole.
    :param total: see :attr:`Cloud.totals`.
    """
    option = "[pci]device_spec"
    if device.is_mediated:
        option = "[devices]enabled_mdev_types"
    if device.is_of_cyborg:
        yield (
            Kind.TWO_OWNERS,
            "Nova manages it, and Cyborg reports it (trait OWNER_CYBORG): both"
            f" would give it away; take it out of {option}, or out of"
            " cyborg.conf",
        )
    if device.resource_class is None:
        yield (
            Kind.NO_INVENTORY,
            "nothing can be allocated from it: the device is gone, or no"
            f" longer in {option}",
        )
    if device.is_mediated and device.address in whole:
        yield (
            Kind.TWO_WAYS,
            f"{device.address} is in [pci]device_spec as well: whichever"
            " server comes second fails to start; take it out of there, or"
            f" out of {option}",
        )
    if total is not None and device.amount.used > total:
        yield (
            Kind.OVERUSED,
            f"{device.amount.used} used of {total}: two servers may believe"
            " that they have the device",
        )
    if device.state is model.State.RESERVED:
        # Nobody has it, and nobody will give it back.
        cause = (
            "no server has it, and it is not quarantined: quarantine it with"
            " 'openstack gpu device quarantine', or"
        )
        if ONE_TIME_USE in device.traits:
            cause = (
                "it was used once, and no agent cleans it: run nova-gpu-agent"
                " on the host, or clean it, and"
            )
        release = f"openstack gpu device release {device.label}"
        yield Kind.RESERVED, f"{cause} run '{release}'"


def _compare_peers(hosts: Iterable[model.Host]) -> Iterator[Disagreement]:
    """Compare hosts that have devices at the same addresses.

    They are machines of one kind, as far as Placement tells, so that equal
    slots should have equal classes and traits.
    """
    alike: dict[tuple[str, ...], list[model.Host]] = {}
    for host in hosts:
        addresses = tuple(device.address for device in host.devices)
        alike.setdefault(addresses, []).append(host)
    for peers in alike.values():
        # Of two it cannot be said which is right.
        if len(peers) < 3:
            continue
        for slot in zip(*(host.devices for host in peers), strict=True):
            yield from _compare_slot(slot)


def _compare_slot(devices: Sequence[model.Device]) -> Iterator[Disagreement]:
    """Compare the devices at one address of several hosts."""
    there = [device for device in devices if device.resource_class]
    for what, of in (
        ("resource class", lambda d: d.resource_class),
        ("traits", lambda d: ", ".join(sorted(d.traits))),
    ):
        tally = collections.Counter(map(of, there))
        if len(tally) < 2:
            continue
        usual, number = tally.most_common(1)[0]
        if number * 2 <= len(there):
            continue  # no majority
        for device in there:
            if of(device) != usual:
                yield Disagreement(
                    Kind.OTHER_THAN_PEERS,
                    device.name,
                    f"{what} {of(device) or 'none'}; {number} of"
                    f" {len(there)} hosts with the same addresses have"
                    f" {usual or 'none'}: compare [pci]device_spec",
                )
        if what == "resource class":
            return


def is_overused(device: model.Device) -> bool:
    """Whether more is used than can be had, so that the total must be
    known: after a one-time use that is as it should be."""
    return device.amount.used > device.amount.capacity


def _check_consumers(cloud: Cloud) -> Iterator[Disagreement]:
    names_by_consumer: dict[str, list[str]] = {}
    for device, owner in _list_owned(cloud):
        names_by_consumer.setdefault(owner.consumer, []).append(device.name)
    for consumer, names in names_by_consumer.items():
        holder = cloud.holders.get_holder(consumer)
        if holder.server is not None or holder.migration is not None:
            continue
        # Not "nova-manage placement audit", which looks at no custom resource
        # class and, with --delete, takes only VCPU and memory from the
        # consumer (NOVA_RCS in nova/cmd/manage.py).
        yield Disagreement(
            Kind.NO_SERVER,
            consumer,
            f"has {', '.join(names)}, but Nova has no such server: unless"
            " another service has it, run 'openstack resource provider"
            f" allocation delete {consumer}'",
        )


def _check_servers(cloud: Cloud) -> Iterator[Disagreement]:
    units: dict[str, collections.Counter[str]] = {}
    for device, owner in _list_owned(cloud):
        held = units.setdefault(owner.consumer, collections.Counter())
        held[str(device.resource_class)] += owner.amount
    short = holders.shorten_uuids(cloud.servers.values())
    mediated = frozenset[str]().union(
        *(host.mediated_classes for host in cloud.hosts)
    )
    for server in cloud.servers.values():
        # Without a host it has nothing; one that failed may have less.
        if server.host is None or server.status in ("BUILD", "ERROR"):
            continue
        try:
            asked = extra_specs.parse_device_counts(server.flavor.extra_specs)
            resources = demand.count_resources(server.flavor.extra_specs)
        except ValueError:
            continue
        held = units.get(server.uuid, collections.Counter())
        if problem := (
            _describe_missing(asked, held, cloud.aliases)
            or _describe_shortage(
                {name: n for name, n in resources.items() if name in mediated},
                held,
            )
        ):
            yield Disagreement(
                Kind.TOO_FEW,
                holders.label_server(server, short),
                f"{problem} ({server.uuid} on {server.host})",
            )


def _describe_missing(
    asked: Iterable[extra_specs.DeviceCount],
    held: collections.Counter[str],
    known: Mapping[str, Alias],
) -> str | None:
    """Say what a server lacks; of unknown aliases, only all together."""
    asked = list(asked)
    if all(ask.alias in known for ask in asked):
        wanted: collections.Counter[str] = collections.Counter()
        for ask in asked:
            wanted[known[ask.alias].resource_class] += ask.count
        return _describe_shortage(wanted, held)
    count = sum(ask.count for ask in asked)
    if held.total() < count:
        return (
            f"its flavor says {count} devices, its allocation {held.total()}"
        )
    return None


def _describe_shortage(
    wanted: Mapping[str, int], held: collections.Counter[str]
) -> str | None:
    """Say of what a server has less than its flavor says."""
    for name, count in wanted.items():
        if held[name] < count:
            return (
                f"its flavor says {count} {name}, its allocation {held[name]}"
            )
    return None


def _list_owned(cloud: Cloud) -> Iterator[tuple[model.Device, model.Owner]]:
    for host in cloud.hosts:
        for device in host.devices:
            for owner in cloud.owners.get(device.uuid, ()):
                yield device, owner
