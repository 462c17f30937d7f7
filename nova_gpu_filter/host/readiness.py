# SPDX-License-Identifier: Apache-2.0

"""Can the devices of a host be passed through, and if not, what to do."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from nova_gpu_filter.host import check_boot
from nova_gpu_filter.host import check_devices
from nova_gpu_filter.host import check_fabric
from nova_gpu_filter.host import check_iommu
from nova_gpu_filter.host import check_memory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.context import Context
from nova_gpu_filter.host.findings import Finding
from nova_gpu_filter.host.findings import Severity

_HOST_CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    check_iommu.check,
    check_boot.check_vfio,
    check_boot.check_initramfs,
    check_fabric.check,
    check_memory.check,
)

_ORDER = {severity: place for place, severity in enumerate(Severity)}


def check(context: Context, only: Iterable[PciAddress] = ()) -> list[Finding]:
    """Run every check; the worst first, the host before its devices.

    :param only: look at these devices; at all if empty.
    """
    wanted = frozenset(only)
    findings = [
        finding
        for host_check in _HOST_CHECKS
        for finding in host_check(context)
    ]
    findings.extend(check_devices.check(context, wanted))
    findings.sort(
        key=lambda finding: (
            _ORDER[finding.severity],
            finding.device is not None,
        )
    )
    return findings
