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

from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import ownership
from nova_gpu_filter.fleet import service

_SHORT: Final = 8
"""Characters of a UUID that people are shown, if these are enough."""
_WAITS: Final = "VERIFY_RESIZE"
"""Status of a server whose resize or migration waits to be confirmed."""
_ENDED: Final = frozenset(
    (
        "confirmed",
        "reverted",
        "error",
        "failed",
        "done",
        "completed",
        "cancelled",
    )
)
"""Statuses in which a migration is over (nova/objects/migration.py)."""


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
    def is_source(self) -> bool:
        """Whether this is what is left behind by a resize."""
        return self.server is not None and self.consumer != self.server.uuid

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to say beside the name: ``resize, source``."""
        if self.migration is None:
            return ()
        end = "source" if self.is_source else "target"
        return (self.migration.kind, end)


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
        self._labels = _labels(self._by_consumer.values())

    @property
    def consumers(self) -> frozenset[str]:
        """UUIDs of all consumers that are known."""
        return frozenset(self._by_consumer)

    def with_more(self, holders: Iterable[Holder]) -> "Holders":
        """Return the same with more consumers, who may have no device."""
        return Holders(self._owners, [*self._by_consumer.values(), *holders])

    def owners_of(self, device: model.Device) -> tuple[model.Owner, ...]:
        """List the owners of a device."""
        return self._owners.get(device.uuid, ())

    def holder(self, consumer: str) -> Holder:
        """Return what is known of a consumer."""
        return self._by_consumer.get(consumer) or Holder(consumer, None)

    def label(self, consumer: str) -> str:
        """Name a consumer; two of them never have the same name."""
        return self._labels.get(consumer, consumer)

    def labels(self, device: model.Device) -> list[str]:
        """Name the owners of a device."""
        return [self.label(o.consumer) for o in self.owners_of(device)]

    def projects(self, device: model.Device) -> list[str]:
        """List the UUIDs of the projects that have a device."""
        owners = self.owners_of(device)
        return list(dict.fromkeys(owner.project for owner in owners))

    @property
    def all_projects(self) -> set[str]:
        """UUIDs of all projects that have devices."""
        return {
            owner.project
            for owners in self._owners.values()
            for owner in owners
        }


def _labels(holders: Iterable[Holder]) -> dict[str, str]:
    """Name holders: where servers share a name, with the UUID's beginning."""
    holders = list(holders)
    short = shorten_uuids(h.server for h in holders if h.server)
    return {
        holder.consumer: holder.consumer
        if holder.server is None
        else label_server(holder.server, short, holder.remarks)
        for holder in holders
    }


def shorten_uuids(servers: Iterable[model.Server]) -> dict[str, str]:
    """Shorten the UUIDs of the servers whose name another one has, too.

    :returns: UUID -> what tells it from the others.
    """
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
    get: service.Get,
    owners: ownership.Owners,
    servers: Mapping[str, model.Server] | None = None,
) -> Holders:
    """Read from Nova who the owners of devices are.

    :param servers: all servers by UUID, where they were read already.
    """
    consumers = {o.consumer for found in owners.values() for o in found}
    return Holders(owners, read_holders(get, consumers, servers))


def read_holders(
    get: service.Get,
    consumers: Collection[str],
    servers: Mapping[str, model.Server] | None = None,
) -> list[Holder]:
    """Read who some consumers are.

    :param servers: all servers by UUID, where they were read already.
    """
    known = dict(
        compute.read_servers(get, consumers)
        if servers is None
        else {uuid: servers[uuid] for uuid in servers.keys() & consumers}
    )
    strangers = set(consumers) - known.keys()
    moving = {s.uuid for s in known.values() if s.status == _WAITS}
    migrations = _find_migrations(get, strangers, moving)
    # The other end may be on a host that was not asked about.
    others = {m.server for m in migrations.values()} - known.keys()
    if servers is None:
        known |= compute.read_servers(get, others)
    else:
        known |= {uuid: servers[uuid] for uuid in servers.keys() & others}
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
    get: service.Get, strangers: Collection[str], moving: Collection[str]
) -> dict[str, model.Migration]:
    """Find the migrations that are consumers, or of servers that wait.

    They are read newest first, and only as far as something is missing.

    :returns: by UUID.
    """
    found: dict[str, model.Migration] = {}
    missing, waiting = set(strangers), set(moving)
    if not missing and not waiting:
        return found
    for migration in compute.read_migrations(get):
        if migration.uuid in missing or (
            migration.server in waiting and migration.waits
        ):
            found[migration.uuid] = migration
            missing.discard(migration.uuid)
            waiting.discard(migration.server)
            if not missing and not waiting:
                break
    return found


def read_consumers_of(
    get: service.Get, server: model.Server
) -> tuple[str, ...]:
    """List the consumers of a server: itself, and the source of a resize."""
    return (
        server.uuid,
        *(
            migration.uuid
            for migration in compute.read_migrations(get, server.uuid)
            if migration.status not in _ENDED
        ),
    )
