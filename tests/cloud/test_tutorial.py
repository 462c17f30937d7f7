# SPDX-License-Identifier: Apache-2.0

"""The commands of the tutorial, as an operator types them."""

import subprocess

from cloud import services
from tests import tutorial


def test_the_tutorial_ends_with_a_gpu_server(cloud, user, note):
    try:
        shown = dict(tutorial.use(user, cloud.files.path("nova/nova.conf")))
    finally:
        user.try_openstack("flavor", "delete", "gpu.2")
    assert len(shown["gpu device list --free"]) == 16
    devices = shown["gpu device list --server first"]
    assert len(devices) == 2
    assert len({device["Host"] for device in devices}) == 1
    note(f"{len(shown)} commands of the tutorial")


def test_the_tutorial_checks_the_controller(cloud):
    nova_conf = cloud.files.path("nova/nova.conf")
    for words in tutorial.commands("nova-gpu-status"):
        done = subprocess.run(
            [
                str(services.BIN / words[0]),
                *("--config-file", str(nova_conf), *words[1:]),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        # 1: warnings, such as for the nova.conf of stock services.
        assert done.returncode in (0, 1), done.stdout + done.stderr
