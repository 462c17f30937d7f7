# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks.findings import Severity
from tests import sysfs_trees
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB
from tests.unit.host.health.checking import check_host


@pytest.fixture
def host(tmp_path):
    """Four GPUs, each below a root port, that are ready."""
    host = sysfs_trees.Host(tmp_path)
    host.nodes(2)
    host.iommu("amd")
    for index, (bus, root) in enumerate(
        (("c1", "c0"), ("c2", "c0"), ("01", "00"), ("02", "00"))
    ):
        port = f"0000:{root}:0{index % 2 + 1}.1"
        host.bridge(port, f"pci0000:{root}", 10 + index)
        host.add(
            sysfs_trees.Pci(
                f"0000:{bus}:00.0",
                port,
                "10de:2bb5",
                0x030200,
                subsystem="10de:204e",
                numa=index // 2,
                group=30 + index,
                driver="vfio-pci",
                bars=(64 * MIB, 128 * GIB, 32 * MIB),
                totalvfs=48,
                vf_ids="10de:2bb5",
            )
        )
    host.vfio_at_boot("10de:2bb5")
    return host


@pytest.fixture
def troubles(host):
    """Findings that ask for action: (check, severity, device, summary)."""

    def find(*severities):
        return [
            (one.check, one.severity, one.device, one.summary)
            for one in check_host(host)
            if one.severity
            in (severities or (Severity.ERROR, Severity.WARNING))
        ]

    return find
