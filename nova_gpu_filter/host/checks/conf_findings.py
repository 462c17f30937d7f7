# SPDX-License-Identifier: Apache-2.0

"""What checks of a nova.conf say, and how they name devices."""

from collections.abc import Sequence

from nova_gpu_filter import printable
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec

CHECK = "nova-conf"

Taken = Sequence[tuple[Function, DeviceSpec]]
"""The devices that are offered, and the device spec of each."""


def make_finding(
    options: pci_options.PciOptions,
    severity: Severity,
    summary: str,
    line: str,
    cures: tuple[str, ...] = (),
    device: PciAddress | None = None,
) -> Finding:
    """Make a finding about a line of a nova.conf."""
    return Finding(
        severity,
        CHECK,
        summary,
        device=None if device is None else str(device),
        evidence=(Evidence(options.source, line),),
        cures=cures,
    )


def list_addresses(functions: Sequence[Function]) -> str:
    """List the addresses of the first few functions."""
    return printable.list_few([str(one.address) for one in functions])


def name_functions(functions: Sequence[Function]) -> str:
    """List the first few functions with their names."""
    return printable.list_few(
        [f"{one.address} ({one.product or one.ids})" for one in functions]
    )
