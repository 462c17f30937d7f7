# SPDX-License-Identifier: Apache-2.0

"""Who has devices, as people call them: servers, and the ends of a resize.

A consumer of Placement is a server, or a migration: that one holds what the
server had on its source until the resize is confirmed.
"""

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Final

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership

_SHORT: Final = 8
"""Characters of a UUID that people are shown, if these are enough."""
_MOVING: Final = frozenset(
    ("RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE", "MIGRATING", "REBUILD")
)
"""Statuses of servers that are on their way from one host to another, or wait
for it to be confirmed; an evacuation shows as REBUILD."""
_OVER: Final = frozenset(("confirmed", "reverted", "completed", "cancelled"))
"""Statuses in which a migration has nothing left anywhere. One that failed may
have left something (nova/compute/manager.py)."""
FAILED: Final = frozenset(("error", "failed"))
"""Statuses in which an operator has to look why."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """A consumer that has devices."""

    consumer: str
    """UUID in Placement."""
    server: model.Server | None
    """None where Nova knows none."""
    migration: model.Migration | None = None
    """Of the server, as long as it is on its way."""

    @property
    def key(self) -> str:
        """UUID of the server; both ends of a resize have the same one."""
        return self.consumer if self.server is None else self.server.uuid

    @property
    def is_soft_deleted(self) -> bool:
        """Whether its server is deleted, but can still be restored."""
        return self.server is not None and (
            self.server.status == "SOFT_DELETED"
        )

    def is_source_on(self, host: str) -> bool:
        """Whether what it has on a host is what it leaves, or has left, there.

        An evacuation leaves the devices to the server itself until the
        nova-compute of the source starts again; a resize to the migration.
        """
        if self.server is None:
            return False
        return self.consumer != self.server.uuid or (
            self.migration is not None
            and self.migration.is_evacuation
            and self.migration.source == host
        )

    def list_remarks(self, host: str) -> tuple[str, ...]:
        """What to say beside the name on a host: ``resize, source``."""
        if self.migration is None:
            return ("soft-deleted",) if self.is_soft_deleted else ()
        end = "source" if self.is_source_on(host) else "target"
        status = self.migration.status
        failed = (status,) if status in FAILED else ()
        return (self.migration.kind, end, *failed)


class Holders:
    """Who has the devices of some hosts."""

    def __init__(
        self, owners: ownership.Owners, holders: Iterable[Holder]
    ) -> None:
        """Work out what to call everybody.

        :param holders: of all consumers among the owners; more do not harm.
        """
        self._owners = owners
        self._by_consumer = {holder.consumer: holder for holder in holders}
        self._short = shorten_uuids(
            holder.server
            for holder in self._by_consumer.values()
            if holder.server is not None
        )

    @property
    def consumers(self) -> frozenset[str]:
        """UUIDs of all consumers that are known."""
        return frozenset(self._by_consumer)

    def with_more(self, holders: Iterable[Holder]) -> "Holders":
        """Return the same with more consumers, who may have no device."""
        return Holders(self._owners, [*self._by_consumer.values(), *holders])

    def list_owners(self, device: model.Device) -> tuple[model.Owner, ...]:
        """List the owners of a device."""
        return self._owners.get(device.uuid, ())

    def get_holder(self, consumer: str) -> Holder:
        """Return what is known of a consumer."""
        return self._by_consumer.get(consumer) or Holder(consumer, None)

    def label(self, consumer: str, host: str) -> str:
        """Name a consumer on a host; two never have the same name there."""
        found = self.get_holder(consumer)
        if found.server is None:
            return consumer
        return label_server(
            found.server, self._short, found.list_remarks(host)
        )

    def name(self, consumer: str) -> str:
        """Name the server of a consumer; both ends of a resize have one name,
        two servers never."""
        server = self.get_holder(consumer).server
        if server is None:
            return consumer
        return label_server(server, self._short)

    def list_labels(self, device: model.Device) -> list[str]:
        """Name the owners of a device."""
        owners = self.list_owners(device)
        return [self.label(owner.consumer, device.host) for owner in owners]

    def list_projects(self, device: model.Device) -> list[str]:
        """List the UUIDs of the projects that have a device."""
        owners = self.list_owners(device)
        return list(dict.fromkeys(owner.project for owner in owners))

    @property
    def all_projects(self) -> set[str]:
        """UUIDs of all projects that have devices."""
        return {
            one.project for owners in self._owners.values() for one in owners
        }


def shorten_uuids(servers: Iterable[model.Server]) -> dict[str, str]:
    """Shorten the UUIDs of the servers whose name another one has, too."""
    by_uuid = {server.uuid: server for server in servers}
    number = collections.Counter(s.name for s in by_uuid.values())
    shared = [s.uuid for s in by_uuid.values() if number[s.name] > 1]
    length = _SHORT
    while len({uuid[:length] for uuid in shared}) < len(shared):
        length += 1
    return {uuid: uuid[:length] for uuid in shared}


def label_server(
    server: model.Server, short: Mapping[str, str], remarks: Iterable[str] = ()
) -> str:
    """Name a server: ``infer-2``, ``infer-2 (3fa85f64, resize, source)``.

    :param short: see :func:`shorten_uuids`.
    """
    known = short.get(server.uuid)
    inside = [*([known] if known else []), *remarks]
    return f"{server.name} ({', '.join(inside)})" if inside else server.name


def read(
    get: api.Get,
    owners: ownership.Owners,
    hosts: Iterable[model.Host],
    servers: Mapping[str, model.Server] | None = None,
) -> Holders:
    """Read from Nova who the owners of the devices of some hosts are.

    :param servers: all servers by UUID, where they were read already.
    """
    hosts_by_consumer: dict[str, set[str]] = collections.defaultdict(set)
    for host in hosts:
        for device in host.devices:
            for owner in owners.get(device.uuid, ()):
                hosts_by_consumer[owner.consumer].add(host.name)
    consumers = {o.consumer for found in owners.values() for o in found}
    return Holders(
        owners, read_holders(get, consumers, servers, hosts_by_consumer)
    )


def read_holders(
    get: api.Get,
    consumers: Collection[str],
    servers: Mapping[str, model.Server] | None = None,
    hosts_by_consumer: Mapping[str, Collection[str]] | None = None,
) -> list[Holder]:
    """Read who some consumers are.

    :param servers: all servers by UUID, where they were read already.
    :param hosts_by_consumer: on which hosts they have devices.
    """

    def read_servers(uuids: Collection[str]) -> dict[str, model.Server]:
        if servers is None:
            return compute.read_servers(get, uuids)
        return {uuid: servers[uuid] for uuid in servers.keys() & uuids}

    known = read_servers(consumers)
    strangers = set(consumers) - known.keys()
    elsewhere = {
        consumer
        for consumer, hosts in (hosts_by_consumer or {}).items()
        if consumer in known and {known[consumer].host} != set(hosts)
    }
    moving = {
        server.uuid
        for server in known.values()
        if server.status in _MOVING or server.uuid in elsewhere
    }
    migrations = _find_migrations(get, strangers, moving)
    if servers is not None:
        # A list may be older than an allocation, and has nothing of cells
        # that are down.
        known |= compute.read_servers(get, strangers - migrations.keys())
    # The other end may be on a host that was not asked about.
    others = {m.server for m in migrations.values()} - known.keys()
    known |= read_servers(others)
    by_server = {m.server: m for m in migrations.values()}
    return [
        Holder(
            consumer,
            known.get(
                migrations[consumer].server
                if consumer in migrations
                else consumer
            ),
            migrations.get(consumer) or by_server.get(consumer),
        )
        for consumer in sorted(consumers)
    ]


def _find_migrations(
    get: api.Get, strangers: Collection[str], moving: Collection[str]
) -> dict[str, model.Migration]:
    """Find the migrations, by UUID, that are consumers, or of servers on their
    way.

    They are read newest first, and only as far as something is missing.
    """
    found: dict[str, model.Migration] = {}
    missing, waiting = set(strangers), set(moving)
    if not missing and not waiting:
        return found
    for migration in compute.read_migrations(get):
        is_newest = migration.server in waiting
        waiting.discard(migration.server)
        if migration.uuid in missing or (
            is_newest and migration.status not in _OVER
        ):
            found[migration.uuid] = migration
            missing.discard(migration.uuid)
            if not missing and not waiting:
                break
    return found


def read_consumers_of(get: api.Get, server: model.Server) -> tuple[str, ...]:
    """List the consumers of a server: itself, and the source of a resize."""
    return (
        server.uuid,
        *(
            migration.uuid
            for migration in compute.read_migrations(get, server.uuid)
            if migration.status not in _OVER
        ),
    )
