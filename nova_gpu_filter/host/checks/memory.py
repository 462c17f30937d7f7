# SPDX-License-Identifier: Apache-2.0

"""What passthrough means for the memory of host and guests."""

from collections.abc import Iterator
import re

from nova_gpu_filter import sizes
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity

_LARGE = 4 << 30


def check(context: Context) -> Iterator[Finding]:
    """Note what the operator should know about memory."""
    if not context.host.gpus:
        return
    yield _describe_pinned(context)
    largest = max(context.host.gpus, key=lambda gpu: gpu.bar_bytes)
    total = sum(gpu.bar_bytes for gpu in context.host.gpus)
    machine_type = iommu_platforms.find_platform(context).machine_type
    machine = (
        f" on {machine_type} (hw_machine_type={machine_type})"
        if machine_type
        else ""
    )
    if largest.bar_bytes >= _LARGE:
        yield Finding(
            Severity.NOTE,
            "memory",
            f"BARs of {sizes.format_size(largest.bar_bytes)} a GPU,"
            f" {sizes.format_size(total)} in all: guests need that much 64-bit"
            " address space beside their memory",
            evidence=(
                Evidence(
                    f"{largest.address.path}/resource",
                    " ".join(
                        f"BAR{bar.index}={sizes.format_size(bar.size)}"
                        for bar in largest.bars
                    ),
                ),
            ),
            cures=(
                "# boot guests with UEFI (image property hw_firmware_type="
                f"uefi){machine}, and show them the"
                " address width of the CPU (hw_maxphysaddr_mode="
                "passthrough)",
            ),
        )


def _describe_pinned(context: Context) -> Finding:
    text = context.tree.read(paths.MEMINFO) or ""
    shown = re.findall(
        r"^(?:MemTotal|HugePages_Total|Hugepagesize):.*$", text, re.MULTILINE
    )
    huge = re.search(r"^HugePages_Total:\s+([1-9][0-9]*)", text, re.MULTILINE)
    return Finding(
        Severity.NOTE,
        "memory",
        "VFIO pins all memory of a guest with a device: memory cannot be"
        " overcommitted for such guests"
        + (
            ""
            if huge
            else ", and without huge pages a large guest starts slowly"
        ),
        evidence=(
            Evidence(paths.MEMINFO, " ".join(shown) or None),
            context.read_evidence(paths.MAPPINGS),
        ),
        cures=(
            "# nova.conf of this host: [DEFAULT]ram_allocation_ratio=1.0",
            "# flavors: hw:mem_page_size=large, with hugepagesz=1G and"
            " hugepages=N on the kernel command line",
            "# libvirt raises the limit of locked memory (memlock) for guests"
            " with devices by itself; a guest that is started otherwise needs"
            " 'ulimit -l' above its memory",
        ),
    )
