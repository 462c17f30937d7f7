# SPDX-License-Identifier: Apache-2.0

"""Partitions of an NVSwitch board follow the guests of a real libvirt.

Fabric Manager is a library of ours whose state is a file; the hook, the agent,
libvirt, its rebinding of devices and QEMU are what an operator has.
"""

import pytest

from tests import smi_files
from tests.hardware import emulated_machines
from tests.hardware import fabric_nodes
from tests.unit.agent.fabric import managers

# In PCI order, gpu0 has Module Id 5: NVIDIA's example.
_MODULES = dict(
    zip((f"gpu{n}" for n in range(8)), smi_files.HGX_H100_MODULES, strict=True)
)
_GPUS = {module: name for name, module in _MODULES.items()}
# These rest on nvidia, the others on vfio-pci.
_ON_NVIDIA = tuple(_GPUS[module] for module in (1, 2, 3, 4))
_ON_VFIO = tuple(_GPUS[module] for module in (5, 6, 7, 8))
_RESTING = {
    **dict.fromkeys(_ON_NVIDIA, "nvidia"),
    **dict.fromkeys(_ON_VFIO, "vfio-pci"),
}
_PAIR = (_GPUS[1], _GPUS[3])
_QUAD = _ON_VFIO


@pytest.fixture(scope="module")
def node(boot):
    """A compute node whose agent listens, and looks after one pair."""
    machine = emulated_machines.HGX_NODE
    with fabric_nodes.start(boot, machine) as (made, placement):
        placement.replace_providers(made.providers(_PAIR))
        made.install()
        made.configure(managers.HGX_H100, _MODULES)
        made.bind_for_guests(*_ON_VFIO)
        assert made.drivers() == _RESTING
        made.start_agent()
        wait_for(made, "free")
        yield made


def wait_for(node, state):
    """Wait until the agent has said so of the pair in Placement."""
    node.wait(
        lambda: node.devices(*_PAIR) == dict.fromkeys(_PAIR, state),
        lambda: node.devices(*_PAIR),
    )


def test_a_guest_has_its_partition_whatever_driver_its_gpus_rest_on(node):
    assert node.create("pair", *_PAIR) == ""
    assert node.manager.active() == {3}
    assert node.drivers() == {**_RESTING, **dict.fromkeys(_PAIR, "vfio-pci")}
    assert node.create("quad", *_QUAD) == ""
    assert node.manager.active() == {2, 3}
    node.wait_for_dma("pair", 2)
    node.wait_for_dma("quad", 4)
    [row] = node.ask_agent("fabric", "list", "--active")[1:]
    assert (row["Partition"], row["Module Ids"]) == (3, "1 3")


def test_guests_stay_when_libvirt_and_the_agent_are_killed(node):
    before = node.domains()
    assert set(before) == {"pair", "quad"}
    node.end_agent()
    node.restart_libvirt()
    assert node.domains() == before
    assert {"pair reconnect begin", "quad reconnect begin"} <= set(
        node.hook_calls()
    )
    assert node.manager.active() == {2, 3}


def test_an_agent_that_comes_back_makes_good_what_it_has_missed(node):
    node.destroy("pair")
    assert node.drivers() == _RESTING
    assert node.manager.active() == {2, 3}
    node.start_agent()
    node.wait(lambda: node.manager.active() == {2})
    assert set(node.domains()) == {"quad"}


def test_a_partition_is_inactive_when_its_guest_has_ended(node):
    node.destroy("quad")
    assert node.manager.active() == set()
    # They rest where they were.
    assert node.drivers() == _RESTING
    wait_for(node, "free")


def test_a_partition_that_fails_starts_no_guest_and_is_quarantined(node):
    node.manager.inject("fail fmActivateFabricPartition -10 1")
    said = node.create("pair", *_PAIR)
    assert "FM_ST_NVLINK_ERROR (-10)" in said
    assert "Hook script execution failed" in said
    assert node.domains() == {}
    assert node.manager.active() == set()
    # libvirt has not touched them.
    assert node.drivers() == _RESTING
    wait_for(node, "quarantined")
    for row in node.ask_agent("list", "--state", "quarantined"):
        assert "FM_ST_NVLINK_ERROR" in row["Reason"]


def test_a_board_with_four_gpus(node):
    node.end_agent(15)
    gpus = _ON_VFIO[:2] + _ON_NVIDIA[1::2]
    modules = dict(zip(sorted(gpus), (3, 1, 4, 2), strict=True))
    node.configure(managers.HGX_4, modules)
    names = {module: name for name, module in modules.items()}
    node.start_agent()
    # One of each kind.
    assert node.create("mixed", names[1], names[2]) == ""
    assert node.manager.active() == {1}
    assert "no fabric partition together" in node.create(
        "odd", names[3], names[1]
    )
    node.destroy("mixed")
    assert node.manager.active() == set()
    assert node.drivers() == _RESTING
