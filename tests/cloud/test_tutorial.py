# SPDX-License-Identifier: Apache-2.0

"""The commands of the tutorial, as an operator types them."""

import subprocess

from cloud import services
from tests import tutorial

# Read from /etc/nova/nova.conf of a controller, which this cloud has not.
_READ_ALIASES = ("capacity", "explain")


def test_the_tutorial_ends_with_a_gpu_server(cloud, user, note):
    nova_conf = str(cloud.files.path("nova/nova.conf"))
    shown = {}
    try:
        for _, *words in tutorial.commands("openstack"):
            arguments = list(words)
            if words[0] == "gpu" and words[1] in _READ_ALIASES:
                arguments += ["--nova-conf", nova_conf]
            if words[:2] == ["gpu", "device"] or "host" in words:
                arguments += ["-f", "json"]
            shown[" ".join(words)] = user.openstack(*arguments)
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
