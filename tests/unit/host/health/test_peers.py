# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.host.checks.findings import Severity
from tests.unit.host.health.checking import BAR0
from tests.unit.host.health.checking import DEVICE
from tests.unit.host.health.checking import GPU


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "resource",
            f"{BAR0}\n"
            "0x0000380000000000 0x000038000fffffff 0x000000000014220c\n"
            "0x0000390000000000 0x0000390001ffffff 0x0000000000040200",
            "BARs",
        ),
        ("sriov_totalvfs", "0", "the number of VFs"),
        ("reset_method", "bus", "ways to be reset"),
        ("max_link_width", "8", "the link that it can have"),
    ],
)
def test_a_device_that_differs_from_its_peers_is_warned_of(
    host, troubles, name, content, what
):
    host.write(f"{DEVICE}/{name}", content)
    found = [one for one in troubles() if one[0] == "peers"]
    assert [one[1:3] for one in found] == [(Severity.WARNING, GPU)]
    assert what in found[0][3]
