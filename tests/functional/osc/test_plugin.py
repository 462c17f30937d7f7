# SPDX-License-Identifier: Apache-2.0

"""OpenStackClient finds the commands, and asks with its own credentials."""

import os
import subprocess
import sys

from cliff import commandmanager
import pytest

from nova_gpu_filter.osc import base

COMMANDS = commandmanager.CommandManager("openstack.gpu.v1").commands


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_be_loaded_and_explains_itself(name):
    command = COMMANDS[name].load()
    assert issubclass(command, base.GpuCommand)
    assert command.__doc__


def _openstack(*arguments):
    environment = {k: v for k, v in os.environ.items() if k[:3] != "OS_"}
    return subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "openstackclient.shell"),
            *arguments,
        ],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_openstackclient_knows_the_commands():
    done = _openstack("gpu", "device", "list", "--help")
    assert done.returncode == 0, done.stderr
    assert "gpu device list [-h]" in done.stdout
    assert "--server <server>" in done.stdout


def test_openstackclient_asks_the_endpoint_that_it_is_given():
    done = _openstack(
        *("--os-auth-type", "none", "--os-endpoint", "http://127.0.0.1:9"),
        *("gpu", "host", "list"),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Placement cannot be reached: Unable to ")
    assert "http://127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1
