# SPDX-License-Identifier: Apache-2.0

"""Has a machine run one of our scripts that use Nova's driver there."""

import json
import os
import pathlib
import sysconfig
from typing import Any

import pytest

from tests.hardware import guest as guest_lib
from tests.hardware import parts as parts_lib

# What an operator writes beside what nova-gpu-host does.
_CONF = """\
[DEFAULT]
host = machine
my_ip = 127.0.0.1
state_path = /var/lib/nova
[database]
connection = sqlite:////run/nova.sqlite
[libvirt]
virt_type = qemu
[vnc]
enabled = false
[spice]
enabled = false
[compute]
provider_config_location = /etc/nova/provider_config
"""
_RUN = (
    "PYTHONPATH=/guest/site:{packages}:/usr/lib/python3/dist-packages"
    " OS_NOVA_DISABLE_EVENTLET_PATCHING=1"
    " {python} -W ignore -m tests.hardware.{script} {arguments}"
)


def skip_without_libvirt(parts: parts_lib.Parts) -> None:
    """Skip the test where Nova's driver cannot be imported."""
    module = f"libvirtmod{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not any(
        (usr / "lib" / "python3" / "dist-packages" / module).exists()
        for usr in (parts.extras / "usr", pathlib.Path("/usr"))
    ):
        pytest.skip("the distribution has libvirt for another Python only")


def write_conf(guest: guest_lib.Guest) -> None:
    """Write the nova.conf of a compute node, without anything of GPUs."""
    etc = guest.state / "etc" / "nova"
    (etc / "provider_config").mkdir(parents=True)
    (etc / "nova.conf").write_text(_CONF)


def run(guest: guest_lib.Guest, script: str, *arguments: str) -> Any:
    """Run a script with libvirt, and give what it tells."""
    guest.shell("start-libvirt")
    told = guest.shell(
        _RUN.format(
            packages=os.path.realpath(sysconfig.get_path("purelib")),
            python=parts_lib.PYTHON,
            script=script,
            arguments=" ".join(arguments),
        )
    )
    return json.loads(told.splitlines()[-1])
