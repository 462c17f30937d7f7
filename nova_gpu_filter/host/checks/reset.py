# SPDX-License-Identifier: Apache-2.0

"""Can a device be reset between two guests, and is it there afterwards?

Sources: the kernel's drivers/pci/pci.c (pci_reset_fn_methods) and
Documentation/ABI/testing/sysfs-bus-pci (reset_method); reports of GPUs whose
reset does not work, one a row.
"""

import dataclasses

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.sysfs import chips

_RESET = Reporter("reset")


def check(context: Context, gpu: Function) -> Findings:
    """Check the ways to reset a GPU, and known faults of them."""
    yield from check_methods(context, gpu)
    yield from _check_faults(context, gpu)


@dataclasses.dataclass(frozen=True, slots=True)
class ResetFault:
    """A kind of GPU that the kernel's reset does not bring back."""

    vendor_id: int
    architectures: frozenset[str]
    text: str
    cure: str
    source: str
    fixed_by: str | None = None
    """A method of reset_method with which it works."""


_RESET_FAULTS = (
    ResetFault(
        chips.AMD,
        frozenset({"CDNA3", "CDNA4"}),
        "given to guests as a whole GPU, it may not answer any more after the"
        " first reset, until the host is started again",
        "# offer the VFs that AMD's driver GIM makes: it resets them itself",
        "amd/MxGPU-Virtualization#25: MI300X and MI355X",
    ),
    ResetFault(
        chips.AMD,
        frozenset({"GCN4", "GCN5", "RDNA"}),
        "the kernel's own reset may leave it so that the next guest cannot"
        " start it, until the host is started again",
        "# install the module vendor-reset (github.com/gnif/vendor-reset) and"
        " load it early; then: echo device_specific > {path}/reset_method",
        "gnif/vendor-reset, README: Polaris, Vega 10 and 20, Navi 10 to 14",
        fixed_by="device_specific",
    ),
)


def _check_faults(context: Context, gpu: Function) -> Findings:
    architecture = gpu.chip.architecture if gpu.chip else None
    for fault in _RESET_FAULTS:
        if (
            gpu.vendor_id == fault.vendor_id
            and architecture in fault.architectures
            and not gpu.sriov_numvfs
            and gpu.driver not in drivers.VF_MAKERS
            and fault.fixed_by not in (gpu.reset_methods or ())
        ):
            yield _RESET.warning(
                fault.text,
                context.show_file(gpu, "device"),
                device=gpu.address,
                cures=(fault.cure.format(path=gpu.address.path),),
            )


def check_methods(context: Context, function: Function) -> Findings:
    """Check by which ways the kernel can reset a device."""
    methods = function.reset_methods
    if methods is None or methods == ("unknown",):
        return
    shown = (context.show_file(function, "reset_method"),)
    if not methods:
        yield _RESET.warning(
            "the kernel has no way to reset the device: the next guest finds"
            " it, and its memory, as the last one left it",
            *shown,
            device=function.address,
            cures=(
                "# look for a firmware update of the card; offer it only to"
                ' guests of one project, or with "one_time_use": "true" in'
                " its device_spec",
            ),
        )
    elif set(methods) <= {"pm"}:
        yield _RESET.warning(
            "the only reset is by power management (D3hot), which leaves the"
            " device's memory as it is",
            *shown,
            device=function.address,
        )
    elif "bus" in methods and not {"flr", "device_specific"} & set(methods):
        siblings = [
            other
            for other in context.host.list_card_functions(function)
            if other is not function
            and other.driver is not None
            and other.driver not in drivers.VFIO_DRIVERS
        ]
        if siblings:
            yield _RESET.warning(
                "the only reset is that of the bus, which resets all"
                " functions of the card; the host uses"
                f" {', '.join(str(one.address) for one in siblings)}",
                *shown,
                *(show_driver(one) for one in siblings),
                device=function.address,
            )
