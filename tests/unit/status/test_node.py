# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.status.node import Role

SPEC = 'device_spec = {"vendor_id": "10de"}\n'


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        pytest.param("", {Role.CONTROLLER}, id="nothing set"),
        pytest.param(
            f"[pci]\n{SPEC}", {Role.COMPUTE}, id="devices, no scheduler"
        ),
        pytest.param(
            "[pci]\nreport_in_placement = true\n",
            {Role.COMPUTE},
            id="a compute whose devices are not named yet",
        ),
        pytest.param(
            "[filter_scheduler]\nenabled_filters = ComputeFilter\n",
            {Role.CONTROLLER},
            id="filters",
        ),
        pytest.param(
            f"[filter_scheduler]\nweight_classes = x\n[pci]\n{SPEC}",
            {Role.CONTROLLER, Role.COMPUTE},
            id="all in one",
        ),
        pytest.param(
            f"[filter_scheduler]\npci_in_placement = true\n[pci]\n{SPEC}",
            {Role.COMPUTE},
            id="a compute needs pci_in_placement, too",
        ),
    ],
)
def test_what_runs_on_a_node_is_seen_from_its_options(make_node, text, roles):
    assert make_node(text).roles == roles
