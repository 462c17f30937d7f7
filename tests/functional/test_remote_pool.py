# SPDX-License-Identifier: Apache-2.0

"""A server that asks for a remote GPU, on a real Nova and Placement."""

import json

from demo import chapter_topology
from demo import cloud as embedded
from demo import fake_machines
from tests.functional.osc import shell


def test_a_server_boots_with_a_remote_gpu_until_the_pool_is_empty():
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, extend_placement=True
    ) as cloud:
        for host in ("hgx-1", "hgx-2"):
            cloud.add_compute(host, fake_machines.hgx_h100())
        cloud.create_flavor("remote", {"resources:CUSTOM_REMOTE_GPU": "1"})
        commands = shell.Shell(shell.connection(cloud))

        def run(*words):
            result = commands.run("gpu", "pool", *words)
            assert (result.code, result.err) == (0, ""), result.err
            return result.out

        run("create", "far", "--gpus", "2")
        run("add", "host", "far", "hgx-2")
        servers = [cloud.boot(f"s{n}", "remote") for n in range(3)]
        assert [server.status for server in servers] == [
            "ACTIVE",
            "ACTIVE",
            "ERROR",
        ]
        # A restart of nova-compute leaves it in the aggregate of the pool.
        cloud.restart_compute("hgx-2")
        shown = json.loads(run("show", "far", "-f", "json"))
        assert shown["hosts"] == ["hgx-2"]
        assert shown["servers"] == {server.uuid: 1 for server in servers[:2]}
        cloud.delete(servers[0])
        assert cloud.boot("again", "remote").status == "ACTIVE"
        assert json.loads(run("show", "far", "-f", "json"))["free"] == 0
