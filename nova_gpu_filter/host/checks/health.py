# SPDX-License-Identifier: Apache-2.0

"""Does a device answer, and does all of it have an address?

Sources: the kernel's drivers/pci/pci-sysfs.c (current_link_speed,
current_link_width, power_state) and drivers/pci/pci.c (pci_power_names).
Reports of such devices: kata-containers#11708, amd/MxGPU-Virtualization#25 and
NVIDIA/open-gpu-kernel-modules#853 (dead after a guest), NVIDIA's forum 159737
and Dunedan/mbp-2016-linux#60 (BARs without addresses).
"""

from nova_gpu_filter.host.checks import pcie_links
from nova_gpu_filter.host.checks import peers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import pci_config

_HEALTH = Reporter("health")
_BARS = Reporter("bars")

_UNKNOWN = "Unknown"


def check(context: Context, device: Function) -> Findings:
    """Check one physical device."""
    dead = _silence(context, device)
    if dead is not None:
        # What else its files say has no meaning.
        yield dead
        return
    yield from _check_power(context, device)
    yield from _check_bars(context, device)
    links = list(pcie_links.check_links(context, device))
    yield from links
    yield from pcie_links.check_errors(context, device)
    yield from peers.check(context, device, has_bad_link=bool(links))


def _read_config(context: Context, device: Function) -> bytes | None:
    return context.tree.read_bytes(
        f"{device.address.path}/config", pci_config.HEADER_BYTES
    )


def _silence(context: Context, device: Function) -> Finding | None:
    """Find what says that a device does not answer."""
    path = device.address.path
    seen: list[Evidence] = []
    config = _read_config(context, device)
    answers = (
        pci_config.silence(config, device.vendor_id, device.product_id)
        if config is not None
        else None
    )
    if answers is not None:
        seen.append(Evidence(f"{path}/config", answers))
    # A sleeping device is woken for its configuration space, not for the
    # state of its link.
    is_asleep = device.power_state == "D3cold" and config is not None
    link = device.pcie_link
    if link is not None and not (is_asleep and answers is None):
        is_down = not link.width and bool(link.max_width)
        if is_down or pcie_links.NO_WIDTH in (link.width, link.max_width):
            seen.append(context.read_evidence(f"{path}/current_link_width"))
        if link.speed == _UNKNOWN and (link.max_speed != _UNKNOWN or seen):
            seen.append(context.read_evidence(f"{path}/current_link_speed"))
    runtime = context.tree.read(f"{path}/power/runtime_status")
    if runtime == "error":
        seen.append(Evidence(f"{path}/power/runtime_status", runtime))
    if device.power_state == "error" or (
        seen and device.power_state not in (None, "D0")
    ):
        seen.append(context.read_evidence(f"{path}/power_state"))
    if not seen:
        return None
    return _HEALTH.error(
        "the device does not answer: a guest that gets it cannot start, or"
        " finds no device",
        *seen,
        device=device.address,
        cures=(
            "# take it out of device_spec until it answers, and restart"
            " nova-compute; then, with no guest that uses it:",
            f"echo 1 > {path}/remove",
            "echo 1 > /sys/bus/pci/rescan",
            "# if that does not bring it back: reset the slot"
            " (/sys/bus/pci/slots), or power the host off and on",
        ),
    )


def _check_power(context: Context, device: Function) -> Findings:
    if device.power_state != "D3cold":
        return
    runtime = context.show_file(device, "power/runtime_status")
    is_fine = (
        runtime.content == "suspended"
        or _read_config(context, device) is not None
    )
    yield _HEALTH.report(
        Severity.NOTE if is_fine else Severity.WARNING,
        "the device is without power (D3cold), as it is not in use"
        if is_fine
        else "the device is without power (D3cold): some devices do not come"
        " back from it",
        context.show_file(device, "power_state"),
        runtime,
        device=device.address,
        cures=()
        if is_fine
        else (
            f"echo on > {device.address.path}/power/control",
            "echo 'options vfio-pci disable_idle_d3=1'"
            " > /etc/modprobe.d/vfio-pci-power.conf",
        ),
    )


def _suggest_mmio_cures(context: Context) -> tuple[str, ...]:
    return (
        '# switch on "Above 4G Decoding" (64-bit BARs) in the firmware\'s'
        " setup, with as much MMIO space as it offers",
        *context.suggest_kernel_arguments("pci=realloc"),
    )


def _check_bars(context: Context, device: Function) -> Findings:
    path = f"{device.address.path}/resource"
    text = context.tree.read(path)
    missing = dict(
        pci_config.list_unassigned_bars(text, _read_config(context, device))
    )
    for number in peers.find_bars_of_peers(context, device):
        missing.setdefault(number, "nothing; its peers have this BAR")
    if not device.bars and not missing:
        yield _BARS.error(
            "the device has no memory: the firmware gave its BARs no"
            " addresses",
            context.read_evidence(path),
            device=device.address,
            cures=_suggest_mmio_cures(context),
        )
    elif missing:
        names = ", ".join(f"BAR{number}" for number in sorted(missing))
        yield _BARS.error(
            f"{names} {'has' if len(missing) == 1 else 'have'} no address:"
            " the firmware and the kernel found no addresses for it",
            *(
                Evidence(path, f"BAR{number}: {seen}")
                for number, seen in sorted(missing.items())
            ),
            device=device.address,
            cures=_suggest_mmio_cures(context),
        )
    if device.is_pf and (bars := pci_config.list_unassigned_vf_bars(text)):
        yield _BARS.report(
            Severity.WARNING if device.sriov_numvfs else Severity.NOTE,
            "the BARs of its VFs have no addresses: the device can be given"
            " whole, and VFs cannot be made of it",
            *(Evidence(path, str(bar)) for bar in bars),
            device=device.address,
            cures=_suggest_mmio_cures(context),
        )
