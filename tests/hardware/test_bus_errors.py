# SPDX-License-Identifier: Apache-2.0

"""Errors that QEMU injects into a device's link, as its kernel counts them.

What a server does not notice is seen by the agent of the host.
"""

import pytest

from tests.hardware import emulated_machines
from tests.hardware import fabric_nodes

_IDS = "0x1af4 0x1050"


@pytest.fixture(scope="module")
def node(boot):
    """A compute node whose agent manages a GPU."""
    machine = emulated_machines.BUS_ERRORS
    with fabric_nodes.start(boot, machine) as (made, placement):
        address = _find(made.guest)
        made.addresses["gpu"] = address
        placement.replace_providers(made.providers(["gpu"]))
        made.install()
        made.bind_for_guests("gpu")
        assert made.drivers()["gpu"] == "vfio-pci"
        # As the firmware of servers leaves it: all errors are reported.
        made.guest.shell(f"setpci -s {address} CAP_EXP+8.w=000f:000f")
        made.start_agent()
        yield made


@pytest.fixture
def free_gpu(node):
    """The address of the GPU, which is free before and after a test."""
    _wait_for(node, "free")
    yield node.addresses["gpu"]
    if node.domains():
        node.destroy("guest")
    if _state(node) == "quarantined":
        node.ask_agent("release", node.addresses["gpu"], "--reason", "tested")
    _wait_for(node, "free")


def _find(guest):
    # It is QEMU's own, without the ids by which others are found.
    [address] = guest.shell(
        "cd /sys/bus/pci/devices; for one in *;"
        f' do [ "$(echo $(cat $one/vendor $one/device))" = "{_IDS}" ] &&'
        " echo $one; done; true"
    ).split()
    return address


def _state(node):
    return node.devices("gpu").get("gpu")


def _wait_for(node, state):
    node.wait(lambda: _state(node) == state, lambda: _state(node))


def _reason(node):
    [row] = node.ask_agent("list")
    return row["Reason"]


def test_an_error_of_a_free_device_is_seen(node, free_gpu):
    node.guest.command_qemu("pcie_aer_inject_error gpu COMP_TIME")
    _wait_for(node, "quarantined")
    assert "PCIe errors" in _reason(node)


def test_errors_while_a_guest_has_it_quarantine_it(node, free_gpu):
    assert node.create("guest", "gpu") == ""
    node.guest.command_qemu("pcie_aer_inject_error gpu COMP_TIME")
    _wait_for(node, "quarantined")
    assert "PCIe errors" in _reason(node)
    # It is the server's until that is gone, and then nobody's.
    assert set(node.domains()) == {"guest"}
    node.destroy("guest")
    _wait_for(node, "quarantined")
