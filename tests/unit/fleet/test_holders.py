# SPDX-License-Identifier: Apache-2.0

"""What those who have devices are called, in every state of a migration."""

import pytest

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import giving_back
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import model
from tests.unit.fleet import builders

SERVER, MIGRATION = "server-uuid", "migration-uuid"
SOURCE, TARGET = "hgx-1", "hgx-2"


class _Nova:
    """One server, and its migrations, the newest first."""

    def __init__(self, status, host, migrations):
        self._server = {
            "id": SERVER,
            "name": "infer",
            "tenant_id": "p",
            "status": status,
            "OS-EXT-SRV-ATTR:hypervisor_hostname": host,
            "flavor": {
                "original_name": "f",
                "vcpus": 1,
                "ram": 1,
                "disk": 1,
                "ephemeral": 0,
                "swap": 0,
            },
        }
        self._migrations = [
            {
                "uuid": uuid,
                "instance_uuid": SERVER,
                "migration_type": kind,
                "status": state,
                "source_node": SOURCE,
                "dest_node": TARGET,
            }
            for uuid, kind, state in migrations
        ]

    def get(self, path):
        if path == f"/servers/{SERVER}":
            return {"server": self._server}
        if path.startswith("/os-migrations"):
            return {"migrations": self._migrations}
        raise errors.NotFound(service="Nova", path=path)


def _read(nova, consumers_by_host, names=(SOURCE, TARGET)):
    """Read who has the first device of each of some hosts."""
    hosts = [builders.machine(n, used=(0,)) for n in names]
    owners = {
        host.devices[0].uuid: (
            model.Owner(consumers_by_host[host.name], "p", 1),
        )
        for host in hosts
    }
    return hosts, holders.read(nova.get, owners, hosts)


@pytest.mark.parametrize(
    ("kind", "state", "status", "host", "cure"),
    [
        ("resize", "pre-migrating", "RESIZE", SOURCE,
         "with the resize of infer finished"),
        ("resize", "migrating", "RESIZE", SOURCE,
         "with the resize of infer finished"),
        ("resize", "post-migrating", "RESIZE", TARGET,
         "with the resize of infer finished"),
        ("resize", "finished", "VERIFY_RESIZE", TARGET,
         "with the resize of infer confirmed"),
        ("migration", "finished", "VERIFY_RESIZE", TARGET,
         "with the migration of infer confirmed"),
        ("resize", "confirming", "VERIFY_RESIZE", TARGET,
         "with the resize of infer finished"),
        ("resize", "reverting", "REVERT_RESIZE", TARGET,
         "with the resize of infer finished"),
        ("live-migration", "preparing", "MIGRATING", SOURCE,
         "with the live-migration of infer finished"),
        ("live-migration", "running", "MIGRATING", SOURCE,
         "with the live-migration of infer finished"),
    ],
)  # fmt: skip
def test_both_ends_are_the_servers(kind, state, status, host, cure):
    nova = _Nova(status, host, [(MIGRATION, kind, state)])
    consumers = {SOURCE: MIGRATION, TARGET: SERVER}
    hosts, held = _read(nova, consumers)
    labels = [held.list_labels(found.devices[0]) for found in hosts]
    assert labels == [
        [f"infer ({kind}, source)"],
        [f"infer ({kind}, target)"],
    ]
    (source,) = giving_back.list_holdings(hosts[0], held, {})
    assert (source.cure, source.rank) == (cure, giving_back.CONFIRM)
    (target,) = giving_back.list_holdings(hosts[1], held, {})
    assert target.rank == giving_back.REMOVE
    # Seen from the target alone, it is known as well.
    (target_host,), held = _read(nova, consumers, (TARGET,))
    assert held.list_labels(target_host.devices[0]) == [
        f"infer ({kind}, target)"
    ]


@pytest.mark.parametrize(
    ("names", "in_cures"),
    [
        (("infer", "infer"), ("infer (aaaaaaaa)", "infer (bbbbbbbb)")),
        (("infer (old)", "infer"), ("infer (old)", "infer")),
    ],
)
@pytest.mark.parametrize(
    ("status", "cure"),
    [
        ("VERIFY_RESIZE", "with the resize of {} confirmed"),
        (
            "SOFT_DELETED",
            "with {} purged (openstack server delete --force)",
        ),
    ],
)
def test_a_cure_names_one_server(names, in_cures, status, cure):
    """Also where another one has the name, or it has a parenthesis."""
    host = builders.machine(SOURCE, used=(0, 1))
    found = []
    for letter, name in zip("ab", names, strict=True):
        server = model.Server(
            letter * 32,
            name,
            "p",
            status,
            TARGET,
            model.Flavor("f", 1, 1, 1, {}),
        )
        move = model.Migration(
            f"move-{letter}", server.uuid, "resize", "finished", SOURCE
        )
        found.append(
            holders.Holder(move.uuid, server, move)
            if status == "VERIFY_RESIZE"
            else holders.Holder(server.uuid, server)
        )
    owners = {
        device.uuid: (model.Owner(holder.consumer, "p", 1),)
        for device, holder in zip(host.devices, found, strict=False)
    }
    held = holders.Holders(owners, found)
    listed = giving_back.list_holdings(host, held, {})
    assert [one.cure for one in listed] == [cure.format(n) for n in in_cures]


@pytest.mark.parametrize("state", ["error", "failed"])
def test_what_a_failed_migration_left_is_told(state):
    nova = _Nova("ACTIVE", TARGET, [(MIGRATION, "migration", state)])
    hosts, held = _read(nova, {SOURCE: MIGRATION, TARGET: SERVER})
    assert held.list_labels(hosts[0].devices[0]) == [
        f"infer (migration, source, {state})"
    ]
    (source,) = giving_back.list_holdings(hosts[0], held, {})
    # To remove the server would leave it there.
    assert (source.cure, source.rank) == (None, giving_back.NO_WAY)


@pytest.mark.parametrize(
    ("state", "status", "host"),
    [
        ("accepted", "REBUILD", SOURCE),
        ("pre-migrating", "REBUILD", SOURCE),
        ("done", "ACTIVE", TARGET),
    ],
)
def test_an_evacuated_server_has_devices_on_both_hosts(state, status, host):
    """Of the same consumer, until nova-compute of the source starts again."""
    nova = _Nova(status, host, [(MIGRATION, "evacuation", state)])
    consumers = {SOURCE: SERVER, TARGET: SERVER}
    hosts, held = _read(nova, consumers)
    assert [held.list_labels(found.devices[0]) for found in hosts] == [
        ["infer (evacuation, source)"],
        ["infer (evacuation, target)"],
    ]
    (source,) = giving_back.list_holdings(hosts[0], held, {})
    assert source.rank == giving_back.CONFIRM
    assert source.cure == (
        "with what is left of infer removed, as nova-compute does"
    )
    (source_host,), held = _read(nova, consumers, (SOURCE,))
    assert held.list_labels(source_host.devices[0]) == [
        "infer (evacuation, source)"
    ]


@pytest.mark.parametrize(
    "migrations",
    [
        [],
        [(MIGRATION, "resize", "confirmed")],
        [(MIGRATION, "resize", "reverted")],
        [(MIGRATION, "evacuation", "completed")],
        # A migration that is over ends all before it.
        [("2", "live-migration", "completed"), ("1", "evacuation", "done")],
    ],
)
@pytest.mark.parametrize("status", ["ACTIVE", "VERIFY_RESIZE"])
def test_a_server_that_is_where_it_is_has_no_remark(migrations, status):
    nova = _Nova(status, TARGET, migrations)
    (host,), held = _read(nova, {TARGET: SERVER}, (TARGET,))
    assert held.list_labels(host.devices[0]) == ["infer"]


def test_consumers_of_a_server_are_those_that_may_hold_something():
    migrations = [
        (f"m-{state}", "migration", state)
        for state in (
            *("accepted", "migrating", "post-migrating", "finished"),
            *("reverting", "error", "failed", "done"),
            *("confirmed", "reverted", "completed", "cancelled"),
        )
    ]
    nova = _Nova("ACTIVE", TARGET, migrations)
    server = model.Server(
        SERVER, "infer", "p", "ACTIVE", TARGET, model.Flavor("f", 1, 1, 1, {})
    )
    found = holders.read_consumers_of(nova.get, server)
    assert found[0] == SERVER
    assert {uuid.removeprefix("m-") for uuid in found[1:]} == {
        *("accepted", "migrating", "post-migrating", "finished"),
        *("reverting", "error", "failed", "done"),
    }
