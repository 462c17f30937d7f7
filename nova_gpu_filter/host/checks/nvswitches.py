# SPDX-License-Identifier: Apache-2.0

"""NVSwitches and the mode of Fabric Manager.

Source: NVIDIA's Fabric Manager User Guide, "Virtualization Models" and
"FABRIC_MODE": 0 is bare metal and full passthrough (guests get GPUs and
NVSwitches), 1 shared NVSwitch (guests get GPUs, the host or a service VM keeps
the NVSwitches and activates partitions), 2 vGPU.
"""

from collections.abc import Sequence

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.links import baseboards

_CONFIG = fabric_manager.CONFIG
_CHECK = fabric_manager.CHECK
_FABRIC = Reporter("fabric")
_MANAGER_DRIVER = "mlx5_core"
"""Of the ConnectX-7 by which Fabric Manager reaches NVSwitches."""
_IS_FOR_BARE_METAL = (
    "Fabric Manager is in the mode for bare metal (FABRIC_MODE=0): the GPUs of"
    " a guest have no NVLink"
)


def check(context: Context) -> Findings:
    """Check that NVSwitches and Fabric Manager serve guests together."""
    yield from _check_other_hosts(context)
    yield from fabric_manager.check(context)
    if context.host.nvswitches:
        yield _check_switches(context)
    else:
        yield from _check_switches_behind_nics(context)


def _check_other_hosts(context: Context) -> Findings:
    for gpu in context.host.gpus:
        if any(board.spans_hosts for board in baseboards.list_boards(gpu)):
            yield _FABRIC.note(
                "the NVLinks of these GPUs reach other hosts (NVL72): NVLink"
                " partitions and IMEX domains of several hosts are not"
                " supported by Nova or nova-gpu-filter, which know the GPUs"
                " of one host",
                context.read_evidence(f"{gpu.address.path}/device"),
            )
            return


def _check_switches(context: Context) -> Finding:
    """Check Fabric Manager where NVSwitches are PCI devices."""
    switches = context.host.nvswitches
    are_all_for_guests = all(
        switch.driver in drivers.VFIO_DRIVERS for switch in switches
    )
    text = context.tree.read(_CONFIG)
    mode = fabric_manager.read_mode(text)
    evidence = tuple(map(show_driver, switches))
    if text is not None:
        is_set = "FABRIC_MODE" in text
        shown = f"FABRIC_MODE={mode}" if is_set else "no FABRIC_MODE"
        evidence = (Evidence(_CONFIG, shown), *evidence)
    if are_all_for_guests and mode == fabric_manager.BARE_METAL:
        return _CHECK.note(
            "the NVSwitches are for guests (full passthrough): a guest needs"
            " all GPUs and all NVSwitches of the host, or one GPU without"
            " NVLink",
            *evidence,
            cures=(
                "# give the NVSwitches a device_spec and an alias as well"
                " (nova-gpu-host config --nvswitches)",
            ),
        )
    if text is None:
        return _CHECK.warning(
            f"{len(switches)} NVSwitches, but Fabric Manager is not installed"
            " on this host: guests will have no NVLink, and CUDA fails in"
            " them",
            Evidence(_CONFIG, None),
            *evidence,
            cures=(
                "# install nvidia-fabricmanager of the driver's version"
                " and set FABRIC_MODE=1 (shared NVSwitch); or, if guests"
                " get all GPUs of the host or none, bind the NVSwitches"
                " to vfio-pci, too",
            ),
        )
    if mode == fabric_manager.BARE_METAL:
        return _CHECK.warning(
            _IS_FOR_BARE_METAL, *evidence, cures=fabric_manager.SHARE
        )
    lost = [
        switch
        for switch in switches
        if switch.driver not in drivers.NVSWITCH_DRIVERS
    ]
    if lost:
        return _CHECK.error(
            f"FABRIC_MODE={mode} needs every NVSwitch bound to the driver"
            f" {drivers.NVSWITCH} on this host (or in its service VM), but"
            f" {_count(lost, switches)} not",
            *evidence,
            # It registers the driver of NVSwitches, too.
            cures=_bind_to_host("nvidia", drivers.NVSWITCH, lost),
        )
    name = "shared NVSwitch" if mode == fabric_manager.SHARED else "vGPU"
    return _CHECK.ok(
        f"Fabric Manager is in the mode for {name} (FABRIC_MODE={mode})",
        *evidence,
    )


def _check_switches_behind_nics(context: Context) -> Findings:
    """Check Fabric Manager where NVSwitches are no PCI devices."""
    gpus = baseboards.list_behind_nics(context.host)
    if len(gpus) < 2:
        return
    managers = [
        nic
        for nic in context.host.nics
        if any(one.use is Use.MANAGEMENT for one in nic.host_uses)
    ]
    if not managers and iommu_platforms.is_virtual(context):
        # They are of the machine below, as is their Fabric Manager.
        return
    if managers and all(
        nic.driver in drivers.VFIO_DRIVERS for nic in managers
    ):
        yield _CHECK.note(
            "the network cards that manage the NVSwitches are for guests (full"
            " passthrough): a guest needs all GPUs and all of these cards, or"
            " one GPU without NVLink",
            *map(show_driver, managers),
        )
        return
    text = context.tree.read(_CONFIG)
    mode = fabric_manager.read_mode(text)
    shown = Evidence(_CONFIG, None if text is None else f"FABRIC_MODE={mode}")
    if mode != fabric_manager.BARE_METAL:
        yield _check_managers_of_host(managers, mode, shown)
        return
    yield _CHECK.warning(
        "the NVSwitches of this board need Fabric Manager and NVLSM, which"
        " are not installed on this host: guests will have no NVLink"
        if text is None
        else _IS_FOR_BARE_METAL,
        shown,
        cures=(
            "# install nvidia-fabricmanager of the driver's version and nvlsm;"
            " or, if a guest gets all GPUs of the host, give it the network"
            " cards that manage the NVSwitches, too",
            *fabric_manager.SHARE,
        ),
    )


def _check_managers_of_host(
    managers: list[Function], mode: int, shown: Evidence
) -> Finding:
    """Check that Fabric Manager reaches the NVSwitches by its cards."""
    evidence = (shown, *map(show_driver, managers))
    lost = [nic for nic in managers if nic.driver != _MANAGER_DRIVER]
    if not lost:
        return _CHECK.ok(f"Fabric Manager has FABRIC_MODE={mode}", *evidence)
    return _CHECK.error(
        f"FABRIC_MODE={mode} needs every network card that manages the"
        f" NVSwitches bound to {_MANAGER_DRIVER} on this host, but"
        f" {_count(lost, managers)} not",
        *evidence,
        cures=_bind_to_host(_MANAGER_DRIVER, _MANAGER_DRIVER, lost),
    )


def _count(some: Sequence[Function], of_all: Sequence[Function]) -> str:
    return f"{len(some)} of {len(of_all)} {'is' if len(some) == 1 else 'are'}"


def _bind_to_host(
    module: str, driver: str, devices: Sequence[Function]
) -> tuple[str, ...]:
    """Say how to bind what Fabric Manager needs to a driver of the host."""
    commands = [f"modprobe {module}"]
    for device in devices:
        path = device.address.path
        commands.append(f"echo > {path}/driver_override")
        if device.driver is not None:
            commands.append(f"echo {device.address} > {path}/driver/unbind")
        commands.append(
            f"echo {device.address} > /sys/bus/pci/drivers/{driver}/bind"
        )
    return (*commands, fabric_manager.RESTART)
