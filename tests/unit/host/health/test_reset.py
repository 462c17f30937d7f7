# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks.findings import Severity
from tests import sysfs_trees
from tests.sysfs_trees import GIB
from tests.sysfs_trees import MIB
from tests.unit.host.health.checking import check_host


def test_amd_instinct_as_whole_gpus_are_warned_of(build):
    host = build("mi300x")
    found = [one for one in check_host(host) if one.check == "reset"]
    assert {one.severity for one in found} == {Severity.WARNING}
    assert "GIM" in found[0].cures[0]


@pytest.mark.parametrize(
    ("ids", "name", "methods", "cure"),
    [
        ("1002:67c4", "Ellesmere [Radeon Pro WX 7100]", "bus", "vendor-reset"),
        ("1002:6860", "Vega 10 [Radeon Instinct MI25]", "bus", "vendor-reset"),
        ("1002:66a1", "Vega 20 [Radeon Instinct MI50]", "bus", "vendor-reset"),
        ("1002:7362", "Navi 12 [Radeon Pro V520]", "bus pm", "vendor-reset"),
        ("1002:7312", "Navi 10 [Radeon Pro W5700]", "bus", "vendor-reset"),
        ("1002:6860", "Vega 10 [MI25]", "device_specific bus", None),
        ("1002:75a3", "Aqua Vanjaram [Instinct MI355X]", "flr bus", "GIM"),
        ("1002:73a1", "Navi 21 [Radeon Pro V620]", "flr bus", None),
        ("1002:7448", "Navi 31 [Radeon Pro W7900]", "flr bus", None),
        ("1002:740f", "Aldebaran/MI200 [Instinct MI210]", "flr bus", None),
        ("10de:26b9", "AD102GL [L40S]", "flr bus", None),
    ],
)
def test_resets_that_do_not_work_are_known_by_the_chip(
    tmp_path, ids, name, methods, cure
):
    host = sysfs_trees.Host(tmp_path)
    host.iommu("amd")
    vendor, product = ids.split(":")
    host.write(
        "/usr/share/hwdata/pci.ids", f"{vendor}  Vendor\n\t{product}  {name}\n"
    )
    host.add(
        sysfs_trees.Pci(
            "0000:03:00.0",
            "pci0000:02",
            ids,
            0x030000,
            group=5,
            driver="vfio-pci",
            bars=(16 * GIB, 2 * MIB),
            reset=methods,
        )
    )
    host.vfio_at_boot(ids)
    found = [one for one in check_host(host) if one.check == "reset"]
    assert len(found) == bool(cure)
    assert all(cure in one.cures[0] for one in found)
