# SPDX-License-Identifier: Apache-2.0

"""The tutorial as it is written, from a bare host with eight H100 on."""

import subprocess

import pytest

from cloud import bootstrap
from cloud import services
from tests import tutorial
from tests.node import kinds
from tests.node import nodes
from tests.node import offers
from tests.node.servers import count_working
from tests.node.servers import expect_devices
from tests.node.servers import read_console

_IDS = "10de:2330"
_H100 = f"{_IDS} class 0302"


@pytest.fixture
def board(cloud, parts, user):
    """A host with an HGX board, of which nova-compute knows nothing."""
    board = nodes.Node(cloud, kinds.HGX, parts, number=3)
    try:
        board.boot()
        yield board
        assert user.delete(user.servers()) == []
    finally:
        board.guest.remove()
    compute = bootstrap.connect(cloud.state).compute
    for service in compute.services(binary="nova-compute", host=board.name):
        compute.delete_service(service)


def _replace_alias(path, printed):
    """Have an alias in nova.conf in the place of the one of this name."""
    [alias] = [
        line for line in printed.splitlines() if line.startswith("alias = ")
    ]
    lines = path.read_text().splitlines()
    [old] = [line for line in lines if '"name": "h100"' in line]
    path.write_text("\n".join([*lines, ""]).replace(old, alias))


def test_the_tutorial_leads_from_a_bare_host_to_a_gpu_server(
    cloud, user, board
):
    board.etc.mkdir()
    printed = {}
    for line in tutorial.lines("nova-gpu-host"):
        # The first check finds a host that is not ready, of course.
        allowed = " || true" if line == "nova-gpu-host check" else ""
        printed[line] = board.guest.shell(f"cd /etc/nova; {line}{allowed}")
        if line == "nova-gpu-host config --modprobe":
            # What they print is a part of the cures of "check".
            board.make_ready()
            code = board.guest.host("check").code
            assert code in (0, 1)
    assert "NOT READY" in printed["nova-gpu-host check"]
    aliases = printed[line]
    assert "--role controller" in line
    _replace_alias(board.etc / "1-cloud.conf", aliases)
    board.start()
    log = board.log.read_text()
    assert "device_spec" not in log.replace("pci.device_spec", "")

    nova_conf = cloud.files.path("nova/nova.conf")
    _replace_alias(nova_conf, aliases)
    cloud.restart("nova-api", "nova-conductor", "nova-scheduler")
    for _, *words in tutorial.commands("nova-gpu-status"):
        done = subprocess.run(
            [
                str(services.BIN / "nova-gpu-status"),
                *("--config-file", str(nova_conf), *words),
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr

    for command, shown in tutorial.use(user, nova_conf):
        if command == "gpu device list --server first":
            [uuid] = user.servers()
            held = expect_devices(cloud, board, user, uuid, 2)
            assert {one["Address"] for one in shown} == {*held}
        if command == "gpu device list --free":
            assert {
                one["Address"] for one in shown if one["Host"] == board.name
            } == {
                # Without the NVSwitches.
                address
                for address, line in board.lspci().items()
                if _IDS in line
            }

    # An image that tells of its devices, which the tutorial's does not.
    last = user.openstack(
        *("server", "create", "--flavor", "gpu.2", "--image", offers.IMAGE),
        *("--nic", "none", "--wait", "-f", "json", "last"),
    )["id"]
    expect_devices(cloud, board, user, last, 2)
    assert count_working(read_console(user, last), _H100) == 2
