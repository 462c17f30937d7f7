# SPDX-License-Identifier: Apache-2.0

"""What checks of a nova.conf say, and how they name devices."""

from collections.abc import Sequence

from nova_gpu_filter import printable
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.nova_rules.device_spec import DeviceSpec

CHECK = Reporter("nova-conf")

Taken = Sequence[tuple[Function, DeviceSpec]]
"""The devices that are offered, and the device spec of each."""


def list_addresses(functions: Sequence[Function]) -> str:
    """List the addresses of the first few functions."""
    return printable.list_few([str(one.address) for one in functions])


def name_functions(functions: Sequence[Function]) -> str:
    """List the first few functions with their names."""
    return printable.list_few(
        [f"{one.address} ({one.product or one.ids})" for one in functions]
    )
