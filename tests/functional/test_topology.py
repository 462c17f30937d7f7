# SPDX-License-Identifier: Apache-2.0

"""Which GPUs servers get by their links, beyond what the demo tells."""

import re

from nova.compute import instance_actions
import pytest

from demo import chapter_topology
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines

FIRST, SECOND = chapter_topology.HGX_HOSTS
SIZES = (1, 2, 4)


def _start(cloud, *hosts):
    """Start hosts, and make flavors with and without a link policy."""
    for host in hosts:
        cloud.add_compute(host, fake_machines.hgx_h100())
    for gpus in SIZES:
        alias = {"pci_passthrough:alias": f"h100:{gpus}"}
        cloud.create_flavor(f"any.{gpus}", alias)
        cloud.create_flavor(f"fabric.{gpus}", {**alias, "gpu:link": "fabric"})


@pytest.fixture
def cloud():
    """Two HGX H100 with fabric partitions, Placement with our extension."""
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, extend_placement=True
    ) as cloud:
        _start(cloud, FIRST, SECOND)
        yield cloud


def _addresses(cloud, server):
    """Return the GPUs of a server, of which all have to say the same."""
    held = cloud_reader.addresses(
        device
        for device in cloud.list_devices(server)
        if device.host == server.host
    )
    assert held == cloud.allocated_addresses(server)
    assert held == cloud.hostdev_addresses(server)
    return held


def _is_partition(cloud, server):
    return chapter_topology.is_partition(
        cloud, server.host, _addresses(cloud, server)
    )


def _migrate(cloud, server, host):
    cloud.migrate(server, host)
    return cloud.confirm(server)


def test_servers_get_whole_partitions_without_asking_for_them(cloud):
    servers = [
        cloud.boot(f"server-{number}", f"any.{gpus}", host=FIRST)
        for number, gpus in enumerate((2, 1, 4, 1))
    ]

    assert [server.status for server in servers] == ["ACTIVE"] * 4
    assert all(_is_partition(cloud, server) for server in servers)


def test_a_move_that_would_break_the_policy_is_refused_until_it_would_not(
    cloud,
):
    """nova-compute takes the first devices that match for a moved server."""
    two = cloud.boot("two", "fabric.2", host=FIRST)
    first, *others = [device.address for device in cloud.devices(SECOND)]
    one = cloud.boot("one", "any.1", host=FIRST)
    one = _migrate(cloud, one, SECOND)
    assert _addresses(cloud, one) == [first]

    decisions = cloud.decisions()
    helpers = cloud.services
    helpers.api.post_server_action(
        two.uuid,
        {"migrate": {"host": SECOND}},
        # 202, or an error, where the API waits for the conductor.
        check_response_status=[],
    )
    helpers._wait_for_action_fail_completion(
        {"id": two.uuid}, instance_actions.MIGRATE, "conductor_migrate_server"
    )
    [refused] = decisions.refusals()
    assert f"here {others[0]} {others[1]}, which are no fabric" in refused
    two = cloud.show(two)
    assert (two.status, two.host) == ("ACTIVE", FIRST)
    assert _is_partition(cloud, two)

    # The next single GPU shares the partition, so the first two are one.
    partner = cloud.boot("partner", "any.1", host=SECOND)
    assert _addresses(cloud, partner) == others[:1]
    two = _migrate(cloud, two, SECOND)
    assert two.host == SECOND
    assert _addresses(cloud, two) == others[1:3]
    assert _is_partition(cloud, two)


def test_a_resize_keeps_the_policy_there_and_back(cloud):
    server = cloud.boot("server", "fabric.2", host=FIRST)
    held = _addresses(cloud, server)

    cloud.resize(server, "fabric.4")
    reverted = cloud.revert(server)
    assert reverted.host == FIRST
    assert _addresses(cloud, reverted) == held

    cloud.resize(server, "fabric.4")
    resized = cloud.confirm(server)
    assert resized.host == SECOND
    assert len(_addresses(cloud, resized)) == 4
    assert _is_partition(cloud, resized)

    cloud.resize(server, "fabric.2")
    resized = cloud.confirm(server)
    assert resized.host == FIRST
    assert len(_addresses(cloud, resized)) == 2
    assert _is_partition(cloud, resized)


@pytest.mark.parametrize("links", ["", "nv18:0"])
def test_a_guest_with_one_numa_node_gets_the_gpus_of_one_host_node(
    edited_conf, links
):
    """NUMATopologyFilter, which comes after ours, finds its cell.

    Neither tags nor traits tell the GPUs of this host apart: all sets of 4
    have equal links, and only 2 of the 70 are on one NUMA node.
    """
    tags = ""
    if links:
        tags = f'"gpu_links": "{links}", "traits": "CUSTOM_GPU_LINK_NV18_0"'
    conf = edited_conf(chapter_topology.CONF)
    conf.write_text(
        re.sub(
            r'"gpu_links": "nv18[^"]*", "traits": "[^"]*"',
            tags,
            conf.read_text(),
        ).replace(", }", "}")
    )
    assert not re.search("fabric:|FABRIC_", conf.read_text())
    with embedded.EmbeddedCloud(conf, extend_placement=True) as cloud:
        _start(cloud, FIRST)
        cloud.create_flavor(
            "numa.4",
            {"pci_passthrough:alias": "h100:4", "hw:numa_nodes": "1"},
        )
        for round_ in range(3):
            servers = [
                cloud.boot(f"numa-{round_}-{number}", "numa.4")
                for number in range(2)
            ]
            for server in servers:
                assert server.status == "ACTIVE", server.fault
                held = _addresses(cloud, server)
                nodes = {
                    device.numa_node
                    for device in cloud.devices(FIRST)
                    if device.address in held
                }
                assert (len(held), len(nodes)) == (4, 1)
            for server in servers:
                cloud.delete(server)
