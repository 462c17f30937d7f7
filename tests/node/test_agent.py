# SPDX-License-Identifier: Apache-2.0

"""What nova-gpu-agent does with devices between two servers."""

import itertools
import json
import os

from tests.cloud import user as users_lib
from tests.node import nodes
from tests.node.servers import create
from tests.node.servers import expect_devices

_STATES = ["free", "checked", "cleaning", "released"]
"""After a server, the last first."""
_USES = int(os.environ.get("NOVA_GPU_USES", "2"))
"""How often the devices are given away; each takes minutes here."""


def test_a_gpu_is_cleaned_after_each_server_and_used_by_another_project(
    cloud, node, user
):
    gpus = sorted(node.lspci())
    user.openstack("project", "create", "other")
    user.openstack(
        *("role", "add", "--project", "other", "--user", "admin", "admin")
    )
    users = itertools.cycle((user, users_lib.User(cloud, "other")))
    for use, one in zip(range(_USES), users, strict=False):
        pair = create(one, f"use-{use}", flavor="k2.2")
        assert sorted(expect_devices(cloud, node, user, pair, 2)) == gpus
        assert nodes.wait_until(
            lambda: (
                {state for state, _ in node.list_devices().values()}
                == {"in-use"}
            )
        )
        # Nova has reserved them, and nobody gets what is dirty.
        assert nodes.reserved(cloud) == 2
        assert user.delete([pair]) == []
        assert nodes.wait_until(lambda: not nodes.reserved(cloud)), (
            node.agent_log()
        )
        for gpu in gpus:
            history = json.loads(node.ask_agent("show", gpu, "-f", "json"))
            states = [one["State"] for one in history]
            assert states[: len(_STATES)] == _STATES
            assert "in-use" in states[len(_STATES) :][:2]


def test_a_gpu_waits_for_an_agent_that_was_killed(cloud, node, user):
    uuid = create(user, "before")
    [gpu] = expect_devices(cloud, node, user, uuid, 1)
    node.kill_agent()
    assert user.delete([uuid]) == []
    # Nobody can have it, for as long as no agent runs.
    assert nodes.wait_until(lambda: not nodes.look(cloud, node).placement)
    assert nodes.reserved(cloud) == 1
    for_both = create(user, "refused", flavor="k2.2", wait=False)
    [server] = user.settle([for_both])
    assert server["status"] == "ERROR"
    assert user.delete([for_both]) == []
    node.start_agent()
    assert not nodes.reserved(cloud)
    again = create(user, "again", flavor="k2.2")
    assert gpu in expect_devices(cloud, node, user, again, 2)


def test_a_quarantined_gpu_stays_with_its_server_and_then_with_nobody(
    cloud, node, user
):
    uuid = create(user, "goes on")
    [gpu] = expect_devices(cloud, node, user, uuid, 1)
    name = f"{node.name}_{gpu}"
    user.openstack("gpu", "device", "quarantine", name)
    assert nodes.wait_until(
        lambda: node.list_devices()[gpu][0] == "quarantined"
    ), node.agent_log()
    assert expect_devices(cloud, node, user, uuid, 1) == [gpu]
    assert user.delete([uuid]) == []
    other = create(user, "other")
    assert expect_devices(cloud, node, user, other, 1) != [gpu]
    assert nodes.reserved(cloud) == 2
    user.openstack("gpu", "device", "release", name)
    assert nodes.wait_until(lambda: node.list_devices()[gpu][0] == "free"), (
        node.agent_log()
    )
