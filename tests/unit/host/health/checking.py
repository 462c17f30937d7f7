# SPDX-License-Identifier: Apache-2.0

"""Checks all of a host that a test has made."""

from nova_gpu_filter.host.checks import readiness
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree

GPU = "0000:c1:00.0"
DEVICE = f"/sys/bus/pci/devices/{GPU}"
BAR0 = "0x00000000b7000000 0x00000000b7ffffff 0x0000000000040200"


def check_host(host):
    """All findings."""
    files = tree.Tree(str(host.root))
    inventory = reader.read(files)
    return readiness.check(Context(files, inventory))
