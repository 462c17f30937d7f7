# SPDX-License-Identifier: Apache-2.0

"""Files of a host that are read here and kept by ``nova-gpu-host capture``.

What is kept of each is in :mod:`nova_gpu_filter.host.saved.kept`.
"""

from typing import Final

HOSTNAME: Final = "/proc/sys/kernel/hostname"
HOSTNAME_FILE: Final = "/etc/hostname"
RELEASE: Final = "/proc/sys/kernel/osrelease"
CPUINFO: Final = "/proc/cpuinfo"
INTERRUPTS: Final = "/proc/interrupts"
MEMINFO: Final = "/proc/meminfo"
HYPERVISOR: Final = "/sys/hypervisor/type"
NODES: Final = "/sys/devices/system/node/online"
NODES_WITH_PROCESSORS: Final = "/sys/devices/system/node/has_cpu"
NODES_WITH_MEMORY: Final = "/sys/devices/system/node/has_memory"
SNP: Final = "/sys/module/kvm_amd/parameters/sev_snp"
TDX: Final = "/sys/module/kvm_intel/parameters/tdx"
NO_IOMMU: Final = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
UNSAFE_INTERRUPTS: Final = (
    "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
)
MAPPINGS: Final = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
FABRIC_MANAGER: Final = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
KERNEL_MODULES: Final = ("/lib/modules", "/usr/lib/modules")
"""Directories that have one for each release of the kernel."""
