# SPDX-License-Identifier: Apache-2.0

"""Who holds which GPU, as Nova, Placement and libvirt each have it.

Read from the databases and from the files of the guests: hundreds of
questions to the APIs would take longer than what they ask about.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import threading

import pymysql

from cloud import control
from cloud import domain_xml

_DATA = "nova_object.data"
"""Where a versioned object has its fields, as JSON."""
_BETWEEN_READINGS = 0.3
"""Seconds."""

Holders = Mapping[tuple[str, str], str]
"""(host, PCI address) to the UUID of a server."""


@dataclasses.dataclass(frozen=True)
class View:
    """The three of them at about one time."""

    nova: Holders
    placement: Holders
    libvirt: Holders
    states: Mapping[tuple[str, str], str]
    """(host, PCI address) to the status of the device in Nova."""
    pools: int
    """Free devices in the pools that the scheduler reads; a little later."""

    def of(self, server: str, which: str = "nova") -> list[tuple[str, str]]:
        """List what a server holds."""
        holders: Holders = getattr(self, which)
        return sorted(key for key, held in holders.items() if held == server)

    def disagreements(self) -> list[str]:
        """Say which devices are not held by the same server everywhere."""
        found = []
        for key in sorted({*self.nova, *self.placement, *self.libvirt}):
            held = [
                f"{name} {holders.get(key)}"
                for name, holders in (
                    ("nova", self.nova),
                    ("placement", self.placement),
                    ("libvirt", self.libvirt),
                )
            ]
            if len({text.split(" ")[1] for text in held}) > 1:
                found.append(f"{key}: {', '.join(held)}")
        return found


def look(cloud: control.Cloud) -> View:
    """Read who holds what.

    :raises AssertionError: a device has two holders.
    """
    nova: dict[tuple[str, str], str] = {}
    states = {}
    for host, address, status, server in _devices_in_nova(cloud):
        states[host, address] = status
        if server is not None:
            nova[host, address] = server
    placement: dict[tuple[str, str], str] = {}
    for provider, consumer, used in rows(
        cloud,
        "SELECT p.name, a.consumer_id, a.used FROM placement.allocations a"
        " JOIN placement.resource_providers p"
        " ON p.id = a.resource_provider_id",
    ):
        # Nova writes the address in capitals there.
        host, _, address = provider.rpartition("_")
        address = address.lower()
        if not host:
            continue  # CPU and memory of the host itself.
        assert used == 1, f"{provider} is allocated {used} times"
        assert (host, address) not in placement, f"{provider} is held twice"
        placement[host, address] = consumer
    libvirt: dict[tuple[str, str], str] = {}
    for host in cloud.state.data["hosts"]:
        for server, guest in cloud.guests(host).items():
            if not guest["running"]:
                continue
            for address in domain_xml.hostdevs(guest["xml"]):
                other = libvirt.get((host, address))
                assert other is None, (
                    f"{address} of {host} is in the guests of {other} and"
                    f" {server}; Nova has {nova}"
                )
                libvirt[host, address] = server
    pools = 0
    for (text,) in rows(
        cloud, "SELECT pci_stats FROM nova.compute_nodes WHERE deleted = 0"
    ):
        for pool in json.loads(text or "{}").get(_DATA, {}).get("objects", ()):
            pools += pool[_DATA]["count"]
    return View(nova, placement, libvirt, states, pools)


def _devices_in_nova(cloud: control.Cloud) -> list[tuple]:
    """Read (host, PCI address, status, UUID of the server or None)."""
    return rows(
        cloud,
        "SELECT n.host, d.address, d.status, d.instance_uuid"
        " FROM nova.pci_devices d"
        " JOIN nova.compute_nodes n ON n.id = d.compute_node_id"
        " WHERE d.deleted = 0 AND n.deleted = 0",
    )


@contextlib.contextmanager
def remember_holders(
    cloud: control.Cloud,
) -> Iterator[set[tuple[str, str, str]]]:
    """Collect who has held what in Nova's database, until the block ends.

    :returns: (UUID of a server, host, PCI address), added to as time goes by.
    """
    found: set[tuple[str, str, str]] = set()
    over = threading.Event()

    def read() -> None:
        while not over.wait(_BETWEEN_READINGS):
            # The database itself may be away.
            with contextlib.suppress(pymysql.MySQLError):
                found.update(
                    (server, host, address)
                    for host, address, _, server in _devices_in_nova(cloud)
                    if server is not None
                )

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def rows(cloud: control.Cloud, query: str) -> list[tuple]:
    """Ask the database."""
    with (
        contextlib.closing(
            pymysql.connect(
                host="127.0.0.1",
                port=cloud.state.port("mariadb"),
                user="openstack",
                password=cloud.state.password,
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        return list(cursor.fetchall())
