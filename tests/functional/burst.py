# SPDX-License-Identifier: Apache-2.0

"""Boot many servers at once on just enough GPUs; print what came of it.

To be run in a process of its own, with Nova's services in real threads::

    OS_NOVA_DISABLE_EVENTLET_PATCHING=1 \\
        python -m tests.functional.burst HOSTS CONF...

For each host there are two servers with 2 GPUs and four with 1, all asked for
at once. What is printed is JSON: for each server its flavor, status, host,
GPUs, GPUs in Placement, and whether these are a whole fabric partition.
"""

from concurrent import futures
import json
import sys

from demo import cloud as embedded

# isort: split

from demo import chapter_topology
from demo import machines

FLAVORS = {"one": {"pci_passthrough:alias": "h100:1"}}
FLAVORS["two"] = {"pci_passthrough:alias": "h100:2", "gpu:link": "fabric"}
SERVERS_OF_A_HOST = ("two", "one", "one") * 2


def main(hosts: int, *conf_files: str) -> None:
    """Boot the servers and print JSON."""
    with embedded.EmbeddedCloud(*conf_files, extend_placement=True) as cloud:
        for number in range(hosts):
            cloud.add_compute(f"hgx-{number}", machines.hgx_h100())
        for name, extra_specs in FLAVORS.items():
            cloud.create_flavor(name, extra_specs)
        flavors = SERVERS_OF_A_HOST * hosts
        with futures.ThreadPoolExecutor(len(flavors)) as pool:
            servers = list(
                pool.map(
                    lambda item: cloud.boot(f"server-{item[0]}", item[1]),
                    enumerate(flavors),
                )
            )
        json.dump(
            [
                _described(cloud, server, flavor)
                for server, flavor in zip(servers, flavors, strict=True)
            ],
            sys.stdout,
        )


def _described(cloud, server, flavor):
    gpus = embedded.addresses(cloud.devices_of(server))
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
