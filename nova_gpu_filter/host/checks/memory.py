# SPDX-License-Identifier: Apache-2.0

"""What passthrough means for the memory of host and guests.

Sources for GPUs whose memory is the host's memory, too (Grace Hopper, Grace
Blackwell): the kernel's drivers/vfio/pci/nvgrace-gpu/main.c (it gives the
memory to the guest, if nobody on the host has it) and
Documentation/ABI/stable/sysfs-devices-node; NVIDIA's Grace Performance Tuning
Guide ("NVIDIA recommends 64K pages") and its open kernel modules (they add
the memory of a GPU as NUMA nodes without processors, which programs use).
"""

import re

from nova_gpu_filter import sizes
from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks import iommu_platforms
from nova_gpu_filter.host.checks import peers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter

_CHECK = Reporter("memory")
_LARGE = 4 << 30
# Ubuntu has linux-image-...-64k, RHEL kernel-64k (its release ends in +64k).
_LARGE_PAGES = re.compile(r"[-+.]64k\b", re.IGNORECASE)


def check(context: Context) -> Findings:
    """Note what the operator should know about memory."""
    if not context.host.gpus:
        return
    yield _describe_pinned(context)
    yield from _check_bars(context)
    yield from _check_coherent(context)


def _check_bars(context: Context) -> Findings:
    largest = max(context.host.gpus, key=lambda gpu: gpu.bar_bytes)
    total = sum(gpu.bar_bytes for gpu in context.host.gpus)
    machine_type = iommu_platforms.find_platform(context).machine_type
    machine = (
        f" on {machine_type} (hw_machine_type={machine_type})"
        if machine_type
        else ""
    )
    if largest.bar_bytes >= _LARGE:
        yield _CHECK.note(
            f"BARs of {sizes.format_size(largest.bar_bytes)} a GPU,"
            f" {sizes.format_size(total)} in all: guests need that much 64-bit"
            " address space beside their memory",
            Evidence(
                f"{largest.address.path}/resource", peers.format_bars(largest)
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
    slow = ", and without huge pages a large guest starts slowly"
    return _CHECK.note(
        "VFIO pins all memory of a guest with a device: memory cannot be"
        f" overcommitted for such guests{'' if huge else slow}",
        Evidence(paths.MEMINFO, " ".join(shown) or None),
        context.read_evidence(paths.MAPPINGS),
        cures=(
            "# nova.conf of this host: [DEFAULT]ram_allocation_ratio=1.0",
            "# flavors: hw:mem_page_size=large, with hugepagesz=1G and"
            " hugepages=N on the kernel command line",
            "# libvirt raises the limit of locked memory (memlock) for guests"
            " with devices by itself; a guest that is started otherwise needs"
            " 'ulimit -l' above its memory",
        ),
    )


def _check_coherent(context: Context) -> Findings:
    """Check the pages of the kernel, and who has the memory of the GPUs."""
    gpus = [
        gpu
        for gpu in context.host.gpus
        if drivers.find_vfio_driver(gpu.ids) != drivers.VFIO
    ]
    if not gpus:
        return
    yield from _check_nodes(context, drivers.find_vfio_driver(gpus[0].ids))
    release = context.tree.read(paths.RELEASE) or ""
    path = f"/boot/config-{release}"
    config = context.tree.read_bytes(path, 1 << 20)
    option = "CONFIG_ARM64_64K_PAGES=y"
    if config is not None:
        is_large = f"\n{option}\n".encode() in config
        shown = Evidence(path, option if is_large else f"no {option}")
    else:
        is_large = _LARGE_PAGES.search(release) is not None
        shown = Evidence(paths.RELEASE, release)
    if release and not is_large:
        yield _CHECK.note(
            "this kernel seems to have pages of 4 KiB, and NVIDIA recommends"
            " 64 KiB for Grace: mapping the memory of a GPU takes long",
            shown,
            cures=(
                "# install the kernel with 64 KiB pages (Ubuntu:"
                " linux-image-generic-64k or linux-nvidia-64k; RHEL:"
                " kernel-64k), and use it for guests, too",
            ),
        )


def _check_nodes(context: Context, driver: str) -> Findings:
    """Find NUMA nodes of GPU memory that the host has in use."""
    try:
        with_memory, with_processors = (
            set(context.tree.read_node_list(path))
            for path in (paths.NODES_WITH_MEMORY, paths.NODES_WITH_PROCESSORS)
        )
    except ValueError:
        return
    nodes = sorted(with_memory - with_processors)
    if nodes and with_processors:
        yield _CHECK.warning(
            f"NUMA nodes {', '.join(map(str, nodes))} have memory and no"
            " processors: NVIDIA's driver has made the memory of GPUs memory"
            " of the host, and a GPU whose memory is in use cannot be given"
            " to a guest",
            context.read_evidence(paths.NODES_WITH_MEMORY),
            context.read_evidence(paths.NODES_WITH_PROCESSORS),
            cures=(
                f"# have {driver} take the GPUs at boot, before nvidia does:",
                context.format_command(
                    "config",
                    "--udev > /etc/udev/rules.d/70-nova-gpu-host.rules",
                ),
                *binding.load_at_boot(context, driver),
                "echo 'blacklist nvidia'"
                " > /etc/modprobe.d/nova-gpu-host-nvidia.conf",
                *context.rebuild_initramfs(),
                "reboot",
            ),
        )
