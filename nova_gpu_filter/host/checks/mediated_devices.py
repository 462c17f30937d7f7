# SPDX-License-Identifier: Apache-2.0

"""GPUs whose own driver makes mediated devices (vGPUs) of them.

Sources: the kernel's Documentation/driver-api/vfio-mediated-device.rst; Nova's
admin/virtual-gpu (``[devices]enabled_mdev_types``), which has nothing to do
with ``[pci]device_spec``.
"""

from collections.abc import Iterator

from nova_gpu_filter.host.boot import drivers
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.checks.findings import show_driver
from nova_gpu_filter.host.inventory import Function

DEVICES = "/sys/bus/mdev/devices"


def check(context: Context, gpu: Function) -> Iterator[Finding]:
    """Check a GPU that has types of mediated devices, and no VFs."""
    if not gpu.mdev_types or gpu.sriov_numvfs:
        return
    path = gpu.address.path
    made = [uuid for one in gpu.mdev_types for uuid in one.made]
    is_wanted = bool(made) or gpu.address in context.mediated
    yield Finding(
        Severity.NOTE if is_wanted else Severity.WARNING,
        "driver",
        f"the GPU is bound to {gpu.driver}, which makes mediated devices"
        " (vGPUs) of it: Nova offers their types by"
        " [devices]enabled_mdev_types, and the GPU as a whole only when it is"
        f" bound to {drivers.find_vfio_driver(gpu.ids)}",
        device=str(gpu.address),
        evidence=(
            show_driver(gpu),
            context.read_listing(f"{path}/mdev_supported_types"),
            *(Evidence(DEVICES, one) for one in made[:1]),
        ),
        # What guests use or nova.conf offers is not taken away.
        cures=()
        if is_wanted
        else drivers.bind_to_vfio(gpu.address, gpu.driver, gpu.ids),
    )
