# SPDX-License-Identifier: Apache-2.0

"""The story of "make demo" on real services, told with the client."""

import pathlib

import pytest

from cloud import bootstrap
from cloud import control
from tests.cloud import views
from tests.cloud import waiting

HOSTS = ("hgx-1", "hgx-2")
GPUS = 8


def create(user, name, gpus, *options):
    """Create a server with the client and return it."""
    return user.openstack(
        *("server", "create", "--flavor", bootstrap.flavor(gpus)),
        *("--image", bootstrap.IMAGE, "--nic", "none", "--wait"),
        *options,
        *("-f", "json", name),
    )


def expect_running(cloud, user, uuid, gpus):
    """Check a server in the API, in all three views and for the user.

    :returns: (host, the addresses of its GPUs).
    """
    server = user.servers()[uuid]
    assert server["status"] == "ACTIVE"
    view = views.look(cloud)
    held = view.of(uuid)
    assert len(held) == gpus
    assert held == view.of(uuid, "placement") == view.of(uuid, "libvirt")
    [host] = {host for host, _ in held}
    assert server["OS-EXT-SRV-ATTR:host"] == host
    return host, [address for _, address in held]


def free(cloud):
    """Count the free H100 in Nova's tracker."""
    states = views.look(cloud).states
    return sum(
        state == "available"
        for (host, _), state in states.items()
        if host in HOSTS
    )


def test_servers_boot_resize_migrate_and_fill_two_hosts_with_the_client(
    cloud, user, note
):
    total = GPUS * len(HOSTS)
    one = create(user, "one", 1)["id"]
    home, _ = expect_running(cloud, user, one, 1)
    [other] = [host for host in HOSTS if host != home]
    two = create(user, "two", 2, "--host", other)["id"]
    four = create(user, "four", 4, "--host", other)["id"]
    expect_running(cloud, user, two, 2)
    assert expect_running(cloud, user, four, 4)[0] == other
    assert free(cloud) == total - 7

    # Allocations as the user sees them.
    shown = user.openstack(
        *("resource", "provider", "allocation", "show", four, "-f", "json")
    )
    assert sum("CUSTOM_GPU_H100" in str(row) for row in shown) == 4

    # Resize up and confirm; the target has exactly what it needs.
    user.openstack(
        *("server", "resize", "--flavor", bootstrap.flavor(2), "--wait", one)
    )
    assert free(cloud) == total - 9, "source and target hold GPUs"
    user.openstack("server", "resize", "confirm", one)
    user.settle([one])
    assert expect_running(cloud, user, one, 2)[0] == other
    assert free(cloud) == total - 8

    # Resize down and think again.
    held = expect_running(cloud, user, one, 2)
    user.openstack(
        *("server", "resize", "--flavor", bootstrap.flavor(1), "--wait", one)
    )
    user.openstack("server", "resize", "revert", one)
    user.settle([one])
    assert expect_running(cloud, user, one, 2) == held

    # Cold migrate there and back.
    more = create(user, "more", 4)["id"]
    assert expect_running(cloud, user, more, 4)[0] == home
    for target in (home, other):
        user.openstack(
            *("server", "migrate", "--host", target, "--wait", four)
        )
        user.openstack("server", "migrate", "confirm", four)
        user.settle([four])
        assert expect_running(cloud, user, four, 4)[0] == target

    # Fill both, and ask for one more.
    for name, gpus in (("fill-2", 2), ("fill-1a", 1), ("fill-1b", 1)):
        uuid = create(user, name, gpus)["id"]
        expect_running(cloud, user, uuid, gpus)
    assert free(cloud) == 0
    late = user.boot("late", bootstrap.flavor(1))
    assert late["status"] == "ERROR"
    assert "No valid host" in user.fault(late["id"])

    # What is deleted can be had again.
    place = expect_running(cloud, user, four, 4)
    user.openstack("server", "delete", "--wait", four)
    # Nova frees the devices of a server that has been migrated only with the
    # next run of nova-compute's periodic task.
    waiting.until(lambda: free(cloud) == 4)
    again = create(user, "again", 4)["id"]
    assert expect_running(cloud, user, again, 4) == place

    assert views.look(cloud).disagreements() == []
    note(f"{total} GPUs: Nova, Placement and libvirt agree on each")


@pytest.fixture
def k2_host(cloud):
    """A host with two GRID K2 that does not report them in Placement."""
    host = "k2-1"
    before = [
        pathlib.Path(path) for path in cloud.state.data["hosts"].values()
    ]
    cloud.set_aliases([*before, control.HGX_H100, control.GRID_K2])
    cloud.start_host(host, control.GRID_K2, in_placement=False)
    cloud.bootstrap.discover_hosts()
    yield host
    cloud.remove_host(host)
    cloud.set_aliases([*before, control.HGX_H100])


def k2_states(cloud, host):
    return {
        address: state
        for (name, address), state in views.look(cloud).states.items()
        if name == host
    }


def test_a_cloud_without_pci_in_placement_is_upgraded_under_its_servers(
    cloud, user, control_plane, k2_host, note
):
    flavor = user.flavor("gpu.k2", {"pci_passthrough:alias": "a1:1"})
    control_plane({"filter_scheduler": {"pci_in_placement": "false"}})

    # As in 2016: pools alone decide.
    servers = [user.boot(f"k2-{number}", flavor) for number in range(2)]
    assert [server["status"] for server in servers] == ["ACTIVE"] * 2
    view = views.look(cloud)
    assert set(k2_states(cloud, k2_host).values()) == {"allocated"}
    assert view.nova == view.libvirt
    assert view.placement == {}
    late = user.boot("late", flavor)
    assert late["status"] == "ERROR"
    first, second = (server["id"] for server in servers)
    held = view.of(first)
    assert user.delete([late["id"], first]) == []
    third = user.boot("k2-again", flavor)["id"]
    assert views.look(cloud).of(third) == held

    # First the hosts report, and the servers run on.
    before = views.look(cloud).nova
    cloud.write_host(k2_host, control.GRID_K2, in_placement=True)
    cloud.restart(f"nova-compute@{k2_host}")
    view = views.look(cloud)
    assert view.nova == before
    assert view.disagreements() == []

    # Then the scheduler asks Placement.
    control_plane()
    held = views.look(cloud).of(second)
    assert user.delete([second]) == []
    fourth = user.boot("k2-upgraded", flavor)
    assert fourth["status"] == "ACTIVE"
    view = views.look(cloud)
    assert view.of(fourth["id"]) == held
    assert view.disagreements() == []
    late = user.boot("late", flavor)
    assert late["status"] == "ERROR"
    note("both modes, and the way from one to the other")
    assert user.delete(user.servers()) == []
