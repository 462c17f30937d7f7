# SPDX-License-Identifier: Apache-2.0

"""Servers that are asked for at once do not race for the same GPUs."""

from concurrent import futures

import pytest

from demo import cloud as embedded
from demo import cloud_reader

# isort: split

from demo import chapter_topology
from demo import fake_machines
from tests.functional import own_process

CONF = """
[quota]
instances = -1
cores = -1
ram = -1
"""
FLAVORS = {"one": {"pci_passthrough:alias": "h100:1"}}
FLAVORS["two"] = {"pci_passthrough:alias": "h100:2", "gpu:link": "fabric"}
HOSTS = 2
BURSTS_OF_A_HOST = (("two",) * 2, ("one",) * 4)


def boot_at_once(cloud, flavors):
    """Boot servers."""
    with futures.ThreadPoolExecutor(len(flavors)) as pool:
        return list(
            pool.map(
                lambda item: cloud.boot(f"{item[1]}-{item[0]}", item[1]),
                enumerate(flavors),
            )
        )


@pytest.mark.skipif(
    not own_process.has_native_threads(),
    reason="green threads do not boot servers side by side",
)
def test_a_burst_onto_just_enough_gpus_gives_every_server_its_own(tmp_path):
    conf = tmp_path / "burst.conf"
    conf.write_text(CONF)
    given = []
    with embedded.EmbeddedCloud(
        "topology.conf", conf, extend_placement=True
    ) as cloud:
        for number in range(HOSTS):
            cloud.add_compute(f"hgx-{number}", fake_machines.hgx_h100())
        for name, extra_specs in FLAVORS.items():
            cloud.create_flavor(name, extra_specs)
        for flavors in BURSTS_OF_A_HOST:
            for server in boot_at_once(cloud, flavors * HOSTS):
                assert server.status == "ACTIVE"
                gpus = cloud_reader.addresses(cloud.list_devices(server))
                assert gpus == cloud.allocated_addresses(server)
                assert chapter_topology.is_partition(cloud, server.host, gpus)
                given += [(server.host, address) for address in gpus]
    assert len(given) == len(set(given)) == 8 * HOSTS
