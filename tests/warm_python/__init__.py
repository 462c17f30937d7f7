# SPDX-License-Identifier: Apache-2.0

"""Runs Python scripts in processes that have imported already what they need.

The plugin of DevStack starts a Python for each thing that it asks Nova, and
tests start nova-gpu-status; each would import Nova anew: 1.4 of 1.5 seconds.
Of 2.3 seconds of the command openstack 1.3 are imports, and an emulated
machine takes 15 seconds for those of nova-compute. So one process imports all
of it, and forks for each script.
"""

import atexit
from collections.abc import Iterable
import functools
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

_REPO = pathlib.Path(__file__).parents[2]
_CLIENT = pathlib.Path(__file__).with_name("client.py")
NOVA = (
    "nova.conf",
    "nova.pci.request",
    "nova.pci.whitelist",
    "nova.scheduler.manager",
    "nova_gpu_filter.status.pci",
    "nova_gpu_filter.status.scheduler_checks",
)
"""What scripts import that ask Nova for its options, and nova-gpu-status."""
OPENSTACK = (
    "openstack.connection",
    "openstackclient.compute.client",
    "openstackclient.compute.v2.server",
    "openstackclient.identity.client",
    "openstackclient.image.client",
    "openstackclient.network.client",
    "openstackclient.shell",
    "openstackclient.volume.client",
)
"""What the command openstack imports."""


def serve(
    python: str | pathlib.Path, place: str, modules: Iterable[str]
) -> list[str]:
    """Write the command that imports modules and forks for each script.

    It listens at ``place`` when it has printed ``ready``, and needs the
    repository in PYTHONPATH.
    """
    server = f"{__name__}.server"
    return [str(python), "-W", "ignore", "-m", server, place, *modules]


def run(python: str | pathlib.Path, place: str) -> list[str]:
    """Write the command that stands for ``python`` before a script."""
    # Without site-packages, which are a third of a short script's time.
    return [str(python), "-S", "-E", str(_CLIENT), place]


@functools.cache
def command(*modules: str) -> str:
    """Start the process that forks; it ends with this one.

    :param modules: what it imports.
    :returns: what a shell script runs with the arguments of Python behind it.
    """
    place = pathlib.Path(tempfile.mkdtemp(prefix="warm-python-"), "socket")
    server = subprocess.Popen(
        serve(sys.executable, str(place), modules),
        env={
            **os.environ,
            "PYTHONPATH": str(_REPO),
            # Forking and green threads do not go together.
            "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(server.terminate)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return shlex.join(run(sys.executable, str(place)))
