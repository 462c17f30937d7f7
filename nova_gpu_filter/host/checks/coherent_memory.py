# SPDX-License-Identifier: Apache-2.0

"""GPUs whose memory is the host's memory, too: Grace Hopper, Grace Blackwell.

Sources: the kernel's drivers/vfio/pci/nvgrace-gpu/main.c (it gives the memory
to the guest, if nobody on the host has it) and
Documentation/ABI/stable/sysfs-devices-node; NVIDIA's Grace Performance Tuning
Guide ("NVIDIA recommends 64K pages") and its open kernel modules (they add
the memory of a GPU as NUMA nodes without processors, which programs use).
"""

from collections.abc import Iterator
import re

from nova_gpu_filter.host import paths
from nova_gpu_filter.host.boot import binding
from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity

_CHECK = "memory"
# Ubuntu has linux-image-...-64k, RHEL kernel-64k (its release ends in +64k).
_LARGE_PAGES = re.compile(r"[-+.]64k\b", re.IGNORECASE)


def check(context: Context) -> Iterator[Finding]:
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
        yield Finding(
            Severity.NOTE,
            _CHECK,
            "this kernel seems to have pages of 4 KiB, and NVIDIA recommends"
            " 64 KiB for Grace: mapping the memory of a GPU takes long",
            evidence=(shown,),
            cures=(
                "# install the kernel with 64 KiB pages (Ubuntu:"
                " linux-image-generic-64k or linux-nvidia-64k; RHEL:"
                " kernel-64k), and use it for guests, too",
            ),
        )


def _check_nodes(context: Context, driver: str) -> Iterator[Finding]:
    """Find NUMA nodes of GPU memory that the host has in use."""
    try:
        with_memory, with_processors = (
            set(context.tree.read_node_list(path))
            for path in (
                paths.NODES_WITH_MEMORY,
                paths.NODES_WITH_PROCESSORS,
            )
        )
    except ValueError:
        return
    nodes = sorted(with_memory - with_processors)
    if nodes and with_processors:
        yield Finding(
            Severity.WARNING,
            _CHECK,
            f"NUMA nodes {', '.join(map(str, nodes))} have memory and no"
            " processors: NVIDIA's driver has made the memory of GPUs memory"
            " of the host, and a GPU whose memory is in use cannot be given"
            " to a guest",
            evidence=(
                context.read_evidence(paths.NODES_WITH_MEMORY),
                context.read_evidence(paths.NODES_WITH_PROCESSORS),
            ),
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
