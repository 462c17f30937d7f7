# SPDX-License-Identifier: Apache-2.0

"""Has a machine run one of our scripts that use Nova's driver there."""

import json
import os
import pathlib
import sysconfig
import time
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
_SECONDS = 1800
"""Ten times what Nova takes on a quiet machine."""
_RUN = (
    "rm -f /run/nova.code;"
    " (PYTHONPATH=/guest/site:{packages}:/usr/lib/python3/dist-packages"
    " OS_NOVA_DISABLE_EVENTLET_PATCHING=1"
    " {python} -W ignore -m tests.hardware.{script} {arguments}"
    " >/run/nova.out 2>/run/nova.err; echo $? >/run/nova.code) &"
)


def skip_without_libvirt(parts: parts_lib.Parts) -> None:
    """Skip the test where Nova's driver cannot be imported."""
    module = f"libvirtmod{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not any(
        (usr / "lib" / "python3" / "dist-packages" / module).exists()
        for usr in (parts.extras / "usr", pathlib.Path("/usr"))
    ):
        pytest.skip("the distribution has libvirt for another Python only")


def write_conf(guest: guest_lib.Guest, name: str = "nova.conf") -> None:
    """Write the nova.conf of a compute node, without anything of GPUs.

    :param name: of the file in /etc/nova.
    """
    etc = guest.state / "etc" / "nova"
    (etc / "provider_config").mkdir(parents=True)
    (etc / name).write_text(_CONF)


def run(guest: guest_lib.Guest, script: str, *arguments: str) -> Any:
    """Run a script beside a libvirt that runs, and give what it tells."""
    guest.shell(
        _RUN.format(
            packages=os.path.realpath(sysconfig.get_path("purelib")),
            python=parts_lib.PYTHON,
            script=script,
            arguments=" ".join(arguments),
        )
    )
    until = time.monotonic() + _SECONDS
    while not (code := guest.shell("cat /run/nova.code 2>/dev/null || :")):
        assert time.monotonic() < until, guest.shell("cat /run/nova.err")
        time.sleep(1)
    assert int(code) == 0, guest.shell("cat /run/nova.err")
    return json.loads(guest.shell("cat /run/nova.out").splitlines()[-1])
