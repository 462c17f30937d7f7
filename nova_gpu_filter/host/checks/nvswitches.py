# SPDX-License-Identifier: Apache-2.0

"""NVSwitches and the mode of Fabric Manager.

Source: NVIDIA's Fabric Manager User Guide, "Virtualization Models" and
"FABRIC_MODE": 0 is bare metal and full passthrough (guests get GPUs and
NVSwitches), 1 shared NVSwitch (guests get GPUs, the host or a service VM keeps
the NVSwitches and activates partitions), 2 vGPU.
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import fabric_manager
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.inventory import Use
from nova_gpu_filter.host.links import baseboards

_CONFIG = fabric_manager.CONFIG
_MANAGER_DRIVER = "mlx5_core"
"""Of the ConnectX-7 by which Fabric Manager reaches NVSwitches."""


def check(context: Context) -> Iterator[Finding]:
    """Check that NVSwitches and Fabric Manager serve guests together."""
    yield from _check_other_hosts(context)
    yield from fabric_manager.check(context)
    switches = context.host.nvswitches
    if not switches:
        yield from _check_switches_behind_nics(context)
        return
    bound = tuple(show_driver(switch) for switch in switches)
    to_guests = [
        switch for switch in switches if switch.driver in drivers.VFIO_DRIVERS
    ]
    text = context.tree.read(_CONFIG)
    if text is None:
        if len(to_guests) == len(switches):
            yield _describe_full_passthrough(bound)
        else:
            yield Finding(
                Severity.WARNING,
                "fabric-manager",
                f"{len(switches)} NVSwitches, but Fabric Manager is not"
                " installed on this host: guests will have no NVLink, and"
                " CUDA fails in them",
                evidence=(Evidence(_CONFIG, None), *bound),
                cures=(
                    "# install nvidia-fabricmanager of the driver's version"
                    " and set FABRIC_MODE=1 (shared NVSwitch); or, if guests"
                    " get all GPUs of the host or none, bind the NVSwitches"
                    " to vfio-pci, too",
                ),
            )
        return
    mode = fabric_manager.read_mode(text)
    shown = Evidence(
        _CONFIG,
        f"FABRIC_MODE={mode}" if "FABRIC_MODE" in text else "no FABRIC_MODE",
    )
    yield from _check_with_manager(switches, to_guests, mode, shown, bound)


def _check_other_hosts(context: Context) -> Iterator[Finding]:
    for gpu in context.host.gpus:
        if any(board.spans_hosts for board in baseboards.list_boards(gpu)):
            yield Finding(
                Severity.NOTE,
                "fabric",
                "the NVLinks of these GPUs reach other hosts (NVL72): NVLink"
                " partitions and IMEX domains of several hosts are not"
                " supported by Nova or nova-gpu-filter, which know the GPUs"
                " of one host",
                evidence=(
                    context.read_evidence(f"{gpu.address.path}/device"),
                ),
            )
            return


def _check_switches_behind_nics(context: Context) -> Iterator[Finding]:
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
        yield Finding(
            Severity.NOTE,
            "fabric-manager",
            "the network cards that manage the NVSwitches are for guests (full"
            " passthrough): a guest needs all GPUs and all of these cards, or"
            " one GPU without NVLink",
            evidence=tuple(map(show_driver, managers)),
        )
        return
    text = context.tree.read(_CONFIG)
    mode = fabric_manager.read_mode(text)
    if text is None:
        summary = (
            "the NVSwitches of this board need Fabric Manager and NVLSM, which"
            " are not installed on this host: guests will have no NVLink"
        )
    elif not mode:
        summary = (
            "Fabric Manager is in the mode for bare metal (FABRIC_MODE=0): the"
            " GPUs of a guest have no NVLink"
        )
    else:
        yield _check_managers_of_host(managers, mode)
        return
    yield Finding(
        Severity.WARNING,
        "fabric-manager",
        summary,
        evidence=(
            Evidence(_CONFIG, None if text is None else f"FABRIC_MODE={mode}"),
        ),
        cures=(
            "# install nvidia-fabricmanager of the driver's version and nvlsm;"
            " or, if a guest gets all GPUs of the host, give it the network"
            " cards that manage the NVSwitches, too",
            f"sed -i 's/^FABRIC_MODE=.*/FABRIC_MODE=1/' {_CONFIG}",
            "systemctl restart nvidia-fabricmanager",
        ),
    )


def _check_managers_of_host(managers: list[Function], mode: int) -> Finding:
    """Check that Fabric Manager reaches the NVSwitches by its cards."""
    shown = (
        Evidence(_CONFIG, f"FABRIC_MODE={mode}"),
        *map(show_driver, managers),
    )
    lost = [nic for nic in managers if nic.driver != _MANAGER_DRIVER]
    if not lost:
        return Finding(
            Severity.OK,
            "fabric-manager",
            f"Fabric Manager has FABRIC_MODE={mode}",
            evidence=shown,
        )
    return Finding(
        Severity.ERROR,
        "fabric-manager",
        f"FABRIC_MODE={mode} needs every network card that manages the"
        f" NVSwitches bound to {_MANAGER_DRIVER} on this host, but {len(lost)}"
        f" of {len(managers)} {'is' if len(lost) == 1 else 'are'} not",
        evidence=shown,
        cures=(
            f"modprobe {_MANAGER_DRIVER}",
            *(
                command
                for nic in lost
                for command in _bind_to_host(nic, _MANAGER_DRIVER)
            ),
            "systemctl restart nvidia-fabricmanager",
        ),
    )


def _bind_to_host(
    switch: Function, driver: str = drivers.NVSWITCH
) -> Iterator[str]:
    path = switch.address.path
    yield f"echo > {path}/driver_override"
    if switch.driver is not None:
        yield f"echo {switch.address} > {path}/driver/unbind"
    yield f"echo {switch.address} > /sys/bus/pci/drivers/{driver}/bind"


def _describe_full_passthrough(bound: tuple[Evidence, ...]) -> Finding:
    return Finding(
        Severity.NOTE,
        "fabric-manager",
        "the NVSwitches are for guests (full passthrough): a guest needs all"
        " GPUs and all NVSwitches of the host, or one GPU without NVLink",
        evidence=bound,
        cures=(
            "# give the NVSwitches a device_spec and an alias as well"
            " (nova-gpu-host config --nvswitches)",
        ),
    )


def _check_with_manager(
    switches: tuple[Function, ...],
    to_guests: list[Function],
    mode: int,
    shown: Evidence,
    bound: tuple[Evidence, ...],
) -> Iterator[Finding]:
    if mode == 0 and len(to_guests) < len(switches):
        yield Finding(
            Severity.WARNING,
            "fabric-manager",
            "Fabric Manager is in the mode for bare metal (FABRIC_MODE=0):"
            " the GPUs of a guest have no NVLink",
            evidence=(shown, *bound),
            cures=(
                f"sed -i 's/^FABRIC_MODE=.*/FABRIC_MODE=1/' {_CONFIG}",
                "systemctl restart nvidia-fabricmanager",
            ),
        )
    elif mode == 0:
        yield _describe_full_passthrough((shown, *bound))
    elif lost := [
        switch
        for switch in switches
        if switch.driver not in drivers.NVSWITCH_DRIVERS
    ]:
        yield Finding(
            Severity.ERROR,
            "fabric-manager",
            f"FABRIC_MODE={mode} needs every NVSwitch bound to the driver"
            f" {drivers.NVSWITCH} on this host (or in its service VM), but"
            f" {len(lost)} of {len(switches)}"
            f" {'is' if len(lost) == 1 else 'are'} not",
            evidence=(shown, *bound),
            cures=(
                # It registers the driver of NVSwitches, too.
                "modprobe nvidia",
                *(
                    command
                    for switch in lost
                    for command in _bind_to_host(switch)
                ),
                "systemctl restart nvidia-fabricmanager",
            ),
        )
    else:
        name = "shared NVSwitch" if mode == 1 else "vGPU"
        yield Finding(
            Severity.OK,
            "fabric-manager",
            f"Fabric Manager is in the mode for {name} (FABRIC_MODE={mode})",
            evidence=(shown, *bound),
        )
