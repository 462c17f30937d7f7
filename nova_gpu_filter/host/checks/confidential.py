# SPDX-License-Identifier: Apache-2.0

"""Can guests use a GPU in its confidential computing mode?

Sources: NVIDIA's Confidential Computing Deployment Guides (a GPU whose mode is
on works only in a guest with SEV-SNP or TDX), nvtrust#55; Nova's admin/sev,
"Limitations" (guests with encrypted memory cannot have host devices).
"""

from collections.abc import Iterator
import dataclasses

from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import chips

_CHECK = "confidential"


@dataclasses.dataclass(frozen=True, slots=True)
class Encryption:
    """A way in which guests of a host can have encrypted memory."""

    name: str
    path: str
    """Y or 1 where KVM has it on."""
    source: str


ENCRYPTIONS = (
    Encryption(
        "SEV-SNP",
        paths.SNP,
        "linux arch/x86/kvm/svm/sev.c; nova/virt/libvirt/host.py",
    ),
    Encryption(
        "TDX",
        paths.TDX,
        "linux arch/x86/kvm/vmx/tdx.c",
    ),
)
_YES = frozenset({"Y", "y", "1"})


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """A mode, and how it is switched off."""

    name: str
    text: str
    option: str
    """Of nvidia_gpu_tools.py."""


_SET_CC = "--set-cc-mode=off --reset-after-cc-mode-switch"
_MODES = {
    mode.name: mode
    for mode in (
        Mode("on", "confidential computing (CC)", _SET_CC),
        Mode("devtools", "confidential computing (CC devtools)", _SET_CC),
        Mode(
            cc_mode.PROTECTED_PCIE,
            "protected PCIe (PPCIe)",
            "--set-ppcie-mode=off --reset-after-ppcie-mode-switch",
        ),
    )
}
_BROKEN = Mode("", "confidential computing, in no valid state", _SET_CC)

# NVIDIA's Confidential Computing documentation, supported GPUs.
_CAPABLE = frozenset({"Hopper", "Blackwell"})


def check_host(context: Context) -> Iterator[Finding]:
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
    yield Finding(
        Severity.NOTE,
        _CHECK,
        "the host can run guests with encrypted memory"
        f" ({encryptions[0].name}); the confidential computing mode of a GPU"
        " is not in sysfs: with the mode on, no other guest can use it, and"
        " Nova gives guests with encrypted memory no devices",
        evidence=(context.read_evidence(encryptions[0].path),),
        cures=(
            "python3 nvidia_gpu_tools.py --devices gpus --query-cc-mode"
            " > cc-mode.txt",
            context.format_command("check", "--nvidia-cc cc-mode.txt"),
        ),
    )


def check(context: Context, device: Function) -> Iterator[Finding]:
    """Check the mode of a GPU or an NVSwitch, where it is known."""
    modes = context.cc_modes
    if modes is None or device.vendor_id != chips.NVIDIA:
        return
    mode = modes.get_mode(device.address)
    if mode in (None, cc_mode.OFF):
        return
    encryptions = _list_encryptions(context)
    known = _MODES.get(mode, _BROKEN)
    yield Finding(
        # Without such guests there is none that could use it.
        Severity.WARNING if encryptions else Severity.ERROR,
        _CHECK,
        f"the device is in the mode for {known.text}: only a guest with"
        " encrypted memory (SEV-SNP or TDX) can use it,"
        + (
            " and Nova gives such guests no devices of a host"
            if encryptions
            else " which this host cannot run"
        ),
        device=str(device.address),
        evidence=(
            Evidence(modes.source, mode),
            *(context.read_evidence(one.path) for one in ENCRYPTIONS),
        ),
        cures=(
            "# of NVIDIA's gpu-admin-tools, with no guest that uses it:",
            f"python3 nvidia_gpu_tools.py --devices {device.address}"
            f" {known.option}",
        ),
    )


def _list_encryptions(context: Context) -> list[Encryption]:
    """List the ways that KVM has on."""
    return [
        one
        for one in ENCRYPTIONS
        if (context.tree.read(one.path) or "") in _YES
    ]
