# SPDX-License-Identifier: Apache-2.0

"""A service is killed while servers are being built."""

import collections
import signal
import time

import pytest

from cloud import bootstrap
from tests.cloud import conftest
from tests.cloud import operators
from tests.cloud import views

BURST = 6

PATIENCE_SECONDS = collections.defaultdict(
    # More than ``rpc_response_timeout``: callers of what died give up then.
    lambda: 75.0,
    # These were the callers, or the work failed with them. Nothing becomes of
    # a server after that, which Nova leaves in BUILD.
    {"nova-conductor": 30.0, "mariadb": 30.0},
)


@pytest.mark.parametrize(
    ("service", "number"),
    [
        ("nova-scheduler", signal.SIGKILL),
        ("nova-conductor", signal.SIGKILL),
        ("placement", signal.SIGKILL),
        ("nova-compute@hgx-1", signal.SIGKILL),
        ("mariadb", signal.SIGTERM),
        ("rabbitmq", signal.SIGTERM),
    ],
    ids=lambda value: value.name if isinstance(value, int) else value,
)
def test_no_gpu_is_lost_or_doubled_when_a_service_dies_in_a_burst(
    cloud, user, note, service, number
):
    def strike():
        # When some requests are under way and others are still to come.
        time.sleep(1.5)
        cloud.processes.end(service, number=number)
        cloud.processes.start_again(service)
        cloud.wait(service)

    begin = time.monotonic()
    with views.remember_holders(cloud) as remembered:
        uuids = user.boot_at_once(
            [bootstrap.flavor(1)] * BURST, meanwhile=strike
        )
        taken = [uuid for uuid in uuids if uuid is not None]
        servers = user.settle(
            taken, patience_seconds=PATIENCE_SECONDS[service]
        )
    counted = collections.Counter(server["status"] for server in servers)
    counted["not taken by the API"] = uuids.count(None)
    settled = time.monotonic() - begin

    # No device has two servers (views.look would fail), and the servers that
    # run have theirs. A host that a server was sent on from may still be
    # written down as its holder in Nova's database.
    view = views.look(cloud)
    for server in servers:
        if server["status"] != "ACTIVE":
            continue
        held = view.of(server["id"], "placement")
        guests = view.of(server["id"], "libvirt")
        if not held and not guests:
            # A build that fails after its last step, as nova-compute cannot
            # write down that it was the last, is undone but for the status.
            counted["ACTIVE without a guest"] += 1
            continue
        assert len(held) == 1
        assert set(held) <= set(view.of(server["id"]))
        more = set(guests) ^ set(held)
        counted["with more than theirs"] += bool(more)
        assert more <= devices_of_hosts_before(remembered, server["id"], *held)

    assert user.delete(user.servers()) == []
    forgotten = operators.free_what_nova_forgets(cloud, user)
    conftest.assert_nothing_held(cloud)
    conftest.assert_audit_is_clean(cloud)
    if not every_gpu_can_be_had(user):
        # PciDevice.free in nova/objects/pci_device.py has set a device to
        # available, and then failed (StopIteration), as it was not among
        # those of the server that were read from a database that had just
        # been away: it is in no pool until nova-compute is started again.
        assert user.delete(user.servers()) == []
        forgotten.append(operators.restart_compute_hosts(cloud))
        conftest.assert_nothing_held(cloud)
        assert every_gpu_can_be_had(user)
    assert views.look(cloud).disagreements() == []
    note(
        f"of {BURST} servers: "
        + ", ".join(f"{n} {what}" for what, n in counted.items() if n)
        + f"; settled after {settled:.0f} s; later boots work"
    )
    for cure in forgotten:
        note(f"Nova alone did not free GPUs: {cure}")


def every_gpu_can_be_had(user):
    """Ask for servers that need all of them."""
    whole = [
        user.boot(f"later-{number}", bootstrap.flavor(8)) for number in (1, 2)
    ]
    return [server["status"] for server in whole] == ["ACTIVE"] * 2


def devices_of_hosts_before(remembered, server, held):
    """List the devices that Nova gives a guest as it had them elsewhere.

    A host whose claim fails, as Placement is away, frees the device in memory;
    the row in the database keeps its owner until the host can save it
    (``ResourceTracker._update`` asks Placement first). The next host gives
    the guest all devices that the database has for the server, so one with
    the address of that device as well. libvirt refuses it if it is in use.
    By the time that the servers have settled, the host before may have saved
    its rows.
    """
    host, _ = held
    return {
        (host, address)
        for holder, other, address in remembered
        if holder == server and other != host
    }
