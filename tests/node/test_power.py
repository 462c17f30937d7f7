# SPDX-License-Identifier: Apache-2.0

"""The host is switched off and on again."""

from tests.node import nodes
from tests.node.servers import count_working
from tests.node.servers import create
from tests.node.servers import expect_devices
from tests.node.servers import read_console


def test_a_server_runs_again_with_its_gpu_after_a_loss_of_power(
    cloud, node, user
):
    uuid = create(user, "outlives")
    [held] = expect_devices(cloud, node, user, uuid, 1)
    [free] = {*node.lspci()} - {held}
    # What a host has not written yet is lost with its power, disks of servers
    # included; Linux writes after half a minute.
    node.guest.shell("sync")
    node.lose_power()
    assert nodes.reserved(cloud) == 1
    node.power_on()

    assert nodes.wait_until(lambda: uuid in node.domains())
    user.settle([uuid], ["ACTIVE"], 300)
    assert expect_devices(cloud, node, user, uuid, 1) == [held]
    assert count_working(read_console(user, uuid)) == 1
    assert {
        address: state for address, (state, _) in node.list_devices().items()
    } == {held: "in-use", free: "free"}
    assert nodes.reserved(cloud) == 1
