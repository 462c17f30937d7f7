# SPDX-License-Identifier: Apache-2.0

"""GPU servers through our filter, beyond what the demo tells."""

import pytest

from demo import chapter_2016
from demo import chapter_h100
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines

HOST = "hgx-1"


@pytest.fixture
def hgx_cloud():
    """A cloud with one HGX H100 and flavors of 1, 2 and 4 GPUs."""
    with embedded.EmbeddedCloud(chapter_h100.CONF) as cloud:
        cloud.add_compute(HOST, fake_machines.hgx_h100())
        for gpus in chapter_h100.SIZES:
            cloud.create_flavor(
                chapter_h100.flavor(gpus),
                {"pci_passthrough:alias": f"h100:{gpus}"},
            )
        yield cloud


@pytest.fixture
def k2_cloud():
    """The cloud of 2016: two GRID K2, no PCI devices in Placement."""
    with embedded.EmbeddedCloud(chapter_2016.CONF) as cloud:
        cloud.add_compute(chapter_2016.K2_HOST, fake_machines.grid_k2())
        cloud.create_flavor(
            chapter_2016.FLAVOR,
            {"pci_passthrough:alias": chapter_2016.ALIAS},
        )
        yield cloud


def _free(cloud, host):
    return sum(pool["count"] for pool in cloud.pools(host))


def test_one_request_for_several_servers_gives_each_its_own_gpus(hgx_cloud):
    servers = hgx_cloud.boot_many("train", chapter_h100.flavor(2), 3)

    assert [server.status for server in servers] == ["ACTIVE"] * 3
    held = [
        cloud_reader.addresses(hgx_cloud.list_devices(server))
        for server in servers
    ]
    assert [len(addresses) for addresses in held] == [2, 2, 2]
    assert len(set().union(*held)) == 6
    assert held == [hgx_cloud.allocated_addresses(s) for s in servers]
    assert held == [hgx_cloud.hostdev_addresses(s) for s in servers]


def test_one_request_for_more_servers_than_fit_gives_none(k2_cloud):
    servers = k2_cloud.boot_many("many", chapter_2016.FLAVOR, 3)

    assert [server.status for server in servers] == ["ERROR"] * 3
    assert _free(k2_cloud, chapter_2016.K2_HOST) == 2


@pytest.mark.parametrize(
    "mode", ["without PCI in Placement", "with PCI in Placement"]
)
def test_a_gpu_server_is_rebuilt_on_a_host_without_a_free_gpu(mode, request):
    """RUN_ON_REBUILD is False: the server has its devices already."""
    if mode == "with PCI in Placement":
        cloud = request.getfixturevalue("hgx_cloud")
        servers = cloud.boot_many("full", chapter_h100.flavor(4), 2)
        host = HOST
    else:
        cloud = request.getfixturevalue("k2_cloud")
        servers = cloud.boot_many("full", chapter_2016.FLAVOR, 2)
        host = chapter_2016.K2_HOST
    assert _free(cloud, host) == 0
    held = cloud_reader.addresses(cloud.list_devices(servers[0]))

    decisions = cloud.decisions()
    rebuilt = cloud.rebuild(servers[0])

    assert (rebuilt.status, rebuilt.host) == ("ACTIVE", host)
    assert cloud_reader.addresses(cloud.list_devices(rebuilt)) == held
    # The scheduler was asked about the new image, our filter was not.
    assert any(
        line.logger == "nova.scheduler.manager" for line in decisions.lines
    )
    assert not decisions.refusals()
