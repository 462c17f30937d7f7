# SPDX-License-Identifier: Apache-2.0

"""Can the devices of a host be passed through, and if not, what to do."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks import boards
from nova_gpu_filter.host.checks import coherent_memory
from nova_gpu_filter.host.checks import confidential
from nova_gpu_filter.host.checks import declared_vfs
from nova_gpu_filter.host.checks import host_needs
from nova_gpu_filter.host.checks import iommu
from nova_gpu_filter.host.checks import memory
from nova_gpu_filter.host.checks import nvswitches
from nova_gpu_filter.host.checks import pass_through
from nova_gpu_filter.host.checks import vfio_modules
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity

_HOST_CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    iommu.check,
    vfio_modules.check_vfio,
    vfio_modules.check_initramfs,
    host_needs.check_others,
    nvswitches.check,
    memory.check,
    coherent_memory.check,
    boards.check,
    confidential.check_host,
    declared_vfs.check,
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
    findings.extend(pass_through.check(context, wanted))
    findings.sort(
        key=lambda finding: (
            _ORDER[finding.severity],
            finding.device is not None,
        )
    )
    return findings
