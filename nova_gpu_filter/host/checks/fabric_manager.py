# SPDX-License-Identifier: Apache-2.0

"""Fabric Manager: its mode, its version, and what it needs beside it.

Sources: NVIDIA's Fabric Manager User Guide ("FABRIC_MODE", "NVLink Subnet
Manager"); NVIDIA/gpu-operator#544 and akash-network/website#632 ("fabric
manager NVIDIA GPU driver interface version 550.127.05 don't match with driver
version 550.120": it does not start); siderolabs/extensions#717 (without NVLSM
no NVLinks from B200 on); NVIDIA/gpu-driver-container#909 (GPUs with NVLink 5
"require the GPUs to be reset after Fabric Manager is started up with
FABRIC_MODE=1", which clears partitions of an earlier run).
"""

import posixpath
import re
from typing import Final

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.conf_agent import AgentOptions
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.links import baseboards
from nova_gpu_filter.host.sysfs import tree as tree_lib

CONFIG = paths.FABRIC_MANAGER
CHECK = Reporter("fabric-manager")

HOOK: Final = "/etc/libvirt/hooks/qemu.d/nova-gpu-agent"
_ADDRESS: Final = "127.0.0.1:6666"
"""Fabric Manager's default (FM_CMD_PORT_NUMBER of nv_fm_types.h)."""

BARE_METAL, SHARED, VGPU = range(3)
RESTART = "systemctl restart nvidia-fabricmanager"
SHARE = (f"sed -i 's/^FABRIC_MODE=.*/FABRIC_MODE={SHARED}/' {CONFIG}", RESTART)
"""How to set the mode for shared NVSwitch."""
_MODE = re.compile(r"^\s*FABRIC_MODE\s*=\s*([0-9]+)", re.MULTILINE)
_RESTART = re.compile(r"^\s*FABRIC_MODE_RESTART\s*=\s*([0-9]+)", re.MULTILINE)


def read_mode(text: str | None) -> int:
    """Read the mode from the configuration; it is 0 unless set."""
    match = _MODE.search(text or "")
    return int(match[1]) if match else BARE_METAL


def read_restarts(text: str | None) -> bool:
    """Read whether it waits, when it is started, for the list of activated
    partitions (FABRIC_MODE_RESTART of the User Guide).
    """
    match = _RESTART.search(text or "")
    return match is not None and int(match[1]) == 1


def check(context: Context) -> Findings:
    """Check what holds on every board with NVSwitches."""
    by_nics = bool(baseboards.list_behind_nics(context.host))
    if not context.host.nvswitches and not by_nics:
        return
    text = context.tree.read(CONFIG)
    if text is None:
        return
    yield from _check_mode(context, read_mode(text))
    yield from _check_version(context)
    if by_nics and read_mode(text) == SHARED:
        yield _ask_for_reset(context)
    if by_nics and context.packages.lacks_nvlsm:
        yield CHECK.warning(
            "Fabric Manager is installed without NVLSM, and does not bring up"
            " the NVLinks of this board without it",
            Evidence("/var/lib/dpkg/status", "no package nvlsm"),
            cures=("apt-get install nvlsm", RESTART),
        )


def _check_mode(context: Context, number: int) -> Findings:
    shown = Evidence(CONFIG, f"FABRIC_MODE={number}")
    if number > VGPU:
        yield CHECK.error(
            f"FABRIC_MODE={number} is no mode: Fabric Manager does not start",
            shown,
            cures=SHARE,
        )
    whole = [
        gpu
        for gpu in context.host.gpus
        if gpu.driver in drivers.VFIO_DRIVERS and not gpu.sriov_numvfs
    ]
    if number == VGPU and whole:
        yield CHECK.warning(
            f"FABRIC_MODE={VGPU} is for vGPUs, and {len(whole)} GPUs are given"
            " to guests as a whole: these have no NVLink",
            shown,
            show_driver(whole[0]),
            cures=SHARE,
        )


def _ask_for_reset(context: Context) -> Finding:
    """Say what boards with NVLink 5 need; no file tells whether it was done.

    These are the boards whose NVSwitches are reached by network cards.
    """
    gpus = baseboards.list_behind_nics(context.host)
    away = [gpu for gpu in gpus if gpu.driver in drivers.VFIO_DRIVERS]
    unreached = (
        f" nvidia-smi does not reach the {len(away)} of {len(gpus)} GPUs that"
        " stay bound to vfio-pci."
        if away
        else ""
    )
    return CHECK.note(
        "GPUs with NVLink 5 have to be reset each time after Fabric Manager"
        " has started in the mode for shared NVSwitch, or partitions of an"
        f" earlier start may stay in them.{unreached} Whether that is done"
        " cannot be read from this host, and nova-gpu-agent does not do it",
        Evidence(CONFIG, f"FABRIC_MODE={SHARED}"),
        *map(show_driver, gpus),
        cures=(
            "# when the host starts: after nvidia-fabricmanager, before any"
            " partition is activated, and while all GPUs are bound to nvidia;"
            " those for vfio-pci are bound to it after this",
            "nvidia-smi -r",
        ),
    )


def _check_version(context: Context) -> Findings:
    manager = context.packages.fabric_manager
    module = context.packages.nvidia_module
    if manager is None or module is None:
        return
    evidence = [Evidence(one.path, one.content) for one in (manager, module)]
    if manager.numbers != module.numbers:
        yield CHECK.error(
            f"Fabric Manager is {manager} and the driver on this host"
            f" {module}: it starts only with its own version, and without it"
            " guests have no NVLink",
            *evidence,
            cures=(
                f"# install nvidia-fabricmanager {module}, and keep both"
                " packages at one version (apt-mark hold, dnf versionlock)",
            ),
        )
    else:
        yield CHECK.ok(
            f"Fabric Manager and the driver on this host are both {manager};"
            " NVIDIA's release notes say which drivers of guests go with it",
            *evidence,
        )


def check_partitions(options: AgentOptions, tree: tree_lib.Tree) -> Findings:
    """Check that somebody activates the partitions of a shared NVSwitch.

    Fabric Manager activates none by itself ("Shared NVSwitch Virtualization
    Model"), and Nova does not ask it to. nova-gpu-agent does, when libvirt's
    hook asks for it.
    """
    number = read_mode(tree.read(CONFIG))
    if number not in (SHARED, VGPU):
        return
    has_hook = tree.exists(HOOK)
    evidence = (
        Evidence(CONFIG, f"FABRIC_MODE={number}"),
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
        yield CHECK.warning(
            "nova-gpu-agent does not activate the fabric partitions of guests:"
            " unless something else does, they have no NVLink",
            *evidence,
            cures=(
                f"# set [gpu_agent]fabric_manager = {_ADDRESS} in"
                f" {options.source}",
                *install,
                "systemctl restart nova-gpu-agent",
            ),
        )
    elif not has_hook:
        yield CHECK.warning(
            "libvirt does not ask nova-gpu-agent before a guest starts: the"
            " guest has no NVLink until the agent finds that it runs",
            *evidence,
            cures=install,
        )
    else:
        yield CHECK.ok(
            "nova-gpu-agent activates the fabric partitions of guests",
            *evidence,
        )
