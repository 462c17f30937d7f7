# SPDX-License-Identifier: Apache-2.0

"""Servers that are asked for at once do not race for the same GPUs."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOVA = importlib.metadata.version("nova")

CONF = """
[quota]
instances = -1
cores = -1
ram = -1
"""


@pytest.mark.skipif(
    int(NOVA.partition(".")[0]) < 34,
    reason=f"the fixtures of Nova {NOVA} cannot run its services in threads",
)
def test_a_burst_onto_just_enough_gpus_gives_every_server_its_own(tmp_path):
    conf = tmp_path / "burst.conf"
    conf.write_text(CONF)
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "tests.functional.burst"),
            *("2", "topology.conf", str(conf)),
        ],
        cwd=ROOT,
        env=os.environ | {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    servers = json.loads(done.stdout)

    assert [server["status"] for server in servers] == ["ACTIVE"] * 12
    assert all(server["is_partition"] for server in servers)
    assert all(s["gpus"] == s["in_placement"] for s in servers)
    given = [(s["host"], address) for s in servers for address in s["gpus"]]
    assert len(given) == len(set(given)) == 16
