# SPDX-License-Identifier: Apache-2.0

"""Run the DevStack plugin with a stand-in and with a real DevStack."""

import os
import shutil

import pytest

from tests.unit.devstack import sandbox

CHECKOUT = os.environ.get("DEVSTACK_DIR")
NO_GAWK = pytest.mark.skipif(
    shutil.which("gawk") is None, reason="DevStack needs gawk"
)

DEVSTACKS = [pytest.param(None, id="stand-in")]
if CHECKOUT:
    DEVSTACKS.append(pytest.param(CHECKOUT, id="devstack", marks=NO_GAWK))


def run_on(*roles):
    """Run a test on nodes of these roles, after stack.sh."""
    return pytest.mark.parametrize(
        "stacked",
        [
            pytest.param(
                (devstack.values[0], role),
                id=f"{role}-{devstack.id}",
                marks=devstack.marks,
            )
            for devstack in DEVSTACKS
            for role in roles
        ],
        indirect=True,
        scope="module",
    )


@pytest.fixture(params=DEVSTACKS)
def machine(request, tmp_path):
    """Make a machine with GPUs, on which Nova is not asked anything."""
    found = sandbox.Sandbox(tmp_path, request.param)
    found.set(
        NOVA_GPU_PCI_ALIAS=sandbox.ALIAS,
        NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC,
    )
    return found


@pytest.fixture(scope="module")
def stacked(request, tmp_path_factory):
    """Make a machine and run stack.sh on it, once a module.

    The parameter is (checkout or None, role), as ``run_on`` gives it.
    """
    devstack, role = request.param
    found = sandbox.Sandbox(tmp_path_factory.mktemp(role), devstack)
    found.role = role
    found.ask_nova()
    found.set(
        NOVA_GPU_CHECK="False",
        NOVA_GPU_PCI_ALIAS=sandbox.ALIAS,
        NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC,
        NOVA_GPU_FRAGMENTATION_WEIGHT="2.5",
        NOVA_GPU_POOL_MATCHER="nova",
    )
    found.run("stack")
    return found
