# SPDX-License-Identifier: Apache-2.0

"""Can guests use a GPU in its confidential computing mode?

Sources: NVIDIA's Confidential Computing Deployment Guides (a GPU whose mode is
on works only in a guest with SEV-SNP or TDX), nvtrust#55; Nova's admin/sev,
"Limitations" (guests with encrypted memory cannot have host devices).
"""

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import chips

_CHECK = Reporter("confidential")

# Ways in which guests can have encrypted memory, and where KVM has them on.
_ENCRYPTIONS = {
    # linux arch/x86/kvm/svm/sev.c; nova/virt/libvirt/host.py
    "SEV-SNP": paths.SNP,
    # linux arch/x86/kvm/vmx/tdx.c
    "TDX": paths.TDX,
}

_SET_CC = "--set-cc-mode=off --reset-after-cc-mode-switch"
_SET_PPCIE = "--set-ppcie-mode=off --reset-after-ppcie-mode-switch"
# Each mode, and the options of nvidia_gpu_tools.py that switch it off.
_MODES = {
    "on": ("confidential computing (CC)", _SET_CC),
    "devtools": ("confidential computing (CC devtools)", _SET_CC),
    cc_mode.PROTECTED_PCIE: ("protected PCIe (PPCIe)", _SET_PPCIE),
}
_BROKEN = ("confidential computing, in no valid state", _SET_CC)

# NVIDIA's Confidential Computing documentation, supported GPUs.
_CAPABLE = frozenset({"Hopper", "Blackwell"})


def check_host(context: Context) -> Findings:
    """Note that modes matter on this host, where they are not known."""
    encryptions = _list_encryptions(context)
    gpus = [
        gpu
        for gpu in context.host.gpus
        if gpu.vendor_id == chips.NVIDIA
        and gpu.chip is not None
        and gpu.chip.architecture in _CAPABLE
    ]
    if not encryptions or not gpus or context.cc_modes is not None:
        return
    yield _CHECK.note(
        "the host can run guests with encrypted memory"
        f" ({encryptions[0]}); the confidential computing mode of a GPU"
        " is not in sysfs: with the mode on, no other guest can use it, and"
        " Nova gives guests with encrypted memory no devices",
        context.read_evidence(_ENCRYPTIONS[encryptions[0]]),
        cures=(
            "python3 nvidia_gpu_tools.py --devices gpus --query-cc-mode"
            " > cc-mode.txt",
            context.format_command("check", "--nvidia-cc cc-mode.txt"),
        ),
    )


def check(context: Context, device: Function) -> Findings:
    """Check the mode of a GPU or an NVSwitch, where it is known."""
    modes = context.cc_modes
    if modes is None or device.vendor_id != chips.NVIDIA:
        return
    mode = modes.get_mode(device.address)
    if mode in (None, cc_mode.OFF):
        return
    encryptions = _list_encryptions(context)
    what, option = _MODES.get(mode, _BROKEN)
    yield _CHECK.report(
        # Without such guests there is none that could use it.
        Severity.WARNING if encryptions else Severity.ERROR,
        f"the device is in the mode for {what}: only a guest with"
        " encrypted memory (SEV-SNP or TDX) can use it,"
        + (
            " and Nova gives such guests no devices of a host"
            if encryptions
            else " which this host cannot run"
        ),
        Evidence(modes.source, mode),
        *map(context.read_evidence, _ENCRYPTIONS.values()),
        device=device.address,
        cures=(
            "# of NVIDIA's gpu-admin-tools, with no guest that uses it:",
            f"python3 nvidia_gpu_tools.py --devices {device.address} {option}",
        ),
    )


def _list_encryptions(context: Context) -> list[str]:
    """List the ways that KVM has on."""
    return [
        name
        for name, path in _ENCRYPTIONS.items()
        if context.tree.read(path) in ("Y", "y", "1")
    ]
