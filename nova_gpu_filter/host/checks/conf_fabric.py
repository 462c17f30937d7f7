# SPDX-License-Identifier: Apache-2.0

"""Whether somebody activates the fabric partitions of guests.

Fabric Manager in shared NVSwitch mode activates none by itself ("Shared
NVSwitch Virtualization Model" of NVIDIA's Fabric Manager User Guide), and Nova
does not ask it to. nova-gpu-agent does, when libvirt's hook asks for it.
"""

from collections.abc import Iterator
import posixpath
from typing import Final

from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks.agent_options import AgentOptions
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import tree as tree_lib

HOOK: Final = "/etc/libvirt/hooks/qemu.d/nova-gpu-agent"
_ADDRESS: Final = "127.0.0.1:6666"
"""Fabric Manager's default (FM_CMD_PORT_NUMBER of nv_fm_types.h)."""


def check(options: AgentOptions, tree: tree_lib.Tree) -> Iterator[Finding]:
    """Check hosts whose Fabric Manager shares the NVSwitches."""
    text = tree.read(fabric_manager.CONFIG)
    number = fabric_manager.read_mode(text)
    if number not in (fabric_manager.SHARED, fabric_manager.VGPU):
        return
    has_hook = tree.exists(HOOK)
    evidence = (
        Evidence(fabric_manager.CONFIG, f"FABRIC_MODE={number}"),
        Evidence(
            options.source,
            f"[gpu_agent]fabric_manager = {options.fabric_manager}",
        ),
        Evidence(HOOK, "there" if has_hook else "not there"),
    )
    install = (
        # Packages of libvirt bring the directory above it only.
        f"mkdir -p {posixpath.dirname(HOOK)}",
        f"nova-gpu-agent fabric hook > {HOOK}",
        f"chmod 755 {HOOK}",
        # The one of the two that runs.
        "systemctl try-restart libvirtd virtqemud",
    )
    if not options.fabric_manager:
        yield Finding(
            Severity.WARNING,
            fabric_manager.CHECK,
            "nova-gpu-agent does not activate the fabric partitions of guests:"
            " unless something else does, they have no NVLink",
            evidence=evidence,
            cures=(
                f"# set [gpu_agent]fabric_manager = {_ADDRESS} in"
                f" {options.source}",
                *install,
                "systemctl restart nova-gpu-agent",
            ),
        )
    elif not has_hook:
        yield Finding(
            Severity.WARNING,
            fabric_manager.CHECK,
            "libvirt does not ask nova-gpu-agent before a guest starts: the"
            " guest has no NVLink until the agent finds that it runs",
            evidence=evidence,
            cures=install,
        )
    else:
        yield Finding(
            Severity.OK,
            fabric_manager.CHECK,
            "nova-gpu-agent activates the fabric partitions of guests",
            evidence=evidence,
        )
