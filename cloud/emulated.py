# SPDX-License-Identifier: Apache-2.0

"""Compute hosts that are emulated machines, with a real libvirt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    # It needs what "python -m cloud --help" does not.
    from cloud import control

NAME = "emulated-hosts"
"""Of the process that has them."""
KINDS = {
    "k2-node": "a GRID K2, two GPUs behind a switch",
    "hgx-node": "eight H100 of an HGX board",
}
"""Machines that there are, and what they have."""
USUAL = {"k2-1": "k2-node", "k2-2": "k2-node"}
"""What is there when no host is named."""

# A processor that is emulated needs minutes for what takes seconds.
_PATIENCE_SECONDS = 3600.0


def start(cloud: control.Cloud, hosts: Mapping[str, str]) -> None:
    """Start them in a cloud that is up, and wait until they are known.

    :param hosts: kinds of machine by names of hosts.
    :raises CloudError: they did not start.
    """
    from cloud import state

    ready = cloud.state.data_of(NAME) / "ready"
    cloud.processes.start(
        NAME,
        (
            *(sys.executable, "-m", "tests.node.keep_running", str(ready)),
            *(f"{name}={kind}" for name, kind in hosts.items()),
        ),
        {
            "CLOUD_DIR": str(cloud.state.directory),
            "PYTHONPATH": str(state.ROOT),
        },
    )
    cloud.processes.wait(NAME, ready.exists, _PATIENCE_SECONDS)


def first_commands(cloud: control.Cloud) -> list[str]:
    """Return commands that show that it works, and those that log in."""
    from cloud import files

    ready = cloud.state.data_of(NAME) / "ready"
    return [
        f". {cloud.state.directory / files.OPENRC}",
        *ready.read_text().splitlines(),
    ]
