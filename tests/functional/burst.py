# SPDX-License-Identifier: Apache-2.0

"""Boot servers at once on just enough GPUs, twice; print what came of it.

To be run in a process of its own, with Nova's services in real threads::

    OS_NOVA_DISABLE_EVENTLET_PATCHING=1 \\
        python -m tests.functional.burst HOSTS CONF...

For each host there are two servers with 2 GPUs, asked for at once, and then
four with 1. What is printed is JSON: for each server its flavor, status, host,
GPUs, GPUs in Placement, and whether these are a whole fabric partition.
"""

from concurrent import futures
import json
import sys

from demo import cloud as embedded
from demo import cloud_reader

# isort: split

from demo import chapter_topology
from demo import fake_machines

FLAVORS = {"one": {"pci_passthrough:alias": "h100:1"}}
FLAVORS["two"] = {"pci_passthrough:alias": "h100:2", "gpu:link": "fabric"}
BURSTS_OF_A_HOST = (("two",) * 2, ("one",) * 4)


def main(hosts: int, *conf_files: str) -> None:
    """Boot the servers and print JSON."""
    with embedded.EmbeddedCloud(*conf_files, extend_placement=True) as cloud:
        for number in range(hosts):
            cloud.add_compute(f"hgx-{number}", fake_machines.hgx_h100())
        for name, extra_specs in FLAVORS.items():
            cloud.create_flavor(name, extra_specs)
        servers = []
        for flavors in BURSTS_OF_A_HOST:
            servers += _boot_at_once(cloud, flavors * hosts)
        json.dump(
            [_described(cloud, *server) for server in servers], sys.stdout
        )


def _boot_at_once(cloud, flavors):
    """Boot servers; return each with its flavor."""
    with futures.ThreadPoolExecutor(len(flavors)) as pool:
        servers = pool.map(
            lambda item: cloud.boot(f"{item[1]}-{item[0]}", item[1]),
            enumerate(flavors),
        )
        return list(zip(servers, flavors, strict=True))


def _described(cloud, server, flavor):
    gpus = cloud_reader.addresses(cloud.devices_of(server))
    return {
        "flavor": flavor,
        "status": server.status,
        "host": server.host,
        "gpus": gpus,
        "in_placement": cloud.allocated_addresses(server),
        "is_partition": bool(gpus)
        and chapter_topology.is_partition(cloud, server.host, gpus),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
