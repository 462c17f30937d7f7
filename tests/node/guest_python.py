# SPDX-License-Identifier: Apache-2.0

"""Runs commands in a machine whose Python has imported what they need."""

import functools
import os
import shlex
import subprocess
import sys
import sysconfig

from cloud import services
from tests import warm_python
from tests.hardware import guest as guest_lib
from tests.hardware import parts

LOG = "python.log"
"""In the machine's state: what :func:`start` has started says."""

_PLACE = "/run/python"
_LIBRARIES = "/guest/lib"
"""Those of libvirt, too, before it is started."""
_IMPORTED = (
    "nova.cmd.compute",
    "nova.virt.libvirt.driver",
    "oslo_privsep.daemon",
    "nova_gpu_filter.cmd.agent",
    "nova_gpu_filter.agent.daemon",
)


def start(guest: guest_lib.Guest) -> None:
    """Have a machine that was booted import all that its services need."""
    _compile()
    log = f"/state/{LOG}"
    server = warm_python.serve(parts.PYTHON, _PLACE, ("libvirt", *_IMPORTED))
    guest.shell(
        f"rm -f {log}; LD_LIBRARY_PATH={_LIBRARIES}"
        f" {_with_packages(*server)} >{log} 2>&1 &"
        f" until grep -q ready {log}; do sleep 0.1;"
        f" kill -0 $! || {{ cat {log}; exit 1; }}; done"
    )


def command(name: str, *arguments: str) -> str:
    """Write the shell command that runs one of the cloud's environment."""
    return _with_packages(
        *warm_python.run(parts.PYTHON, _PLACE),
        *("-W", "ignore", str(services.BIN / name), *arguments),
    )


def _with_packages(*words: str) -> str:
    packages = os.path.realpath(sysconfig.get_path("purelib"))
    return shlex.join(["with-packages", packages, *words])


@functools.cache
def _compile() -> None:
    """Have Python compile here what machines import.

    They cannot write beside the sources, and an emulated processor takes a
    minute for it at each start.
    """
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore"),
            *("-c", f"import {','.join(_IMPORTED)}"),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
    )
