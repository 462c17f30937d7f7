# SPDX-License-Identifier: Apache-2.0

"""Partitions of an NVSwitch board follow the guests of a real libvirt.

Fabric Manager is a library of ours whose state is a file; the hook, the agent,
libvirt, its rebinding of devices, QEMU and Nova's driver are what an operator
has.
"""

import pytest

from nova_gpu_filter.topology import codec
from tests import smi_files
from tests.hardware import emulated_machines
from tests.hardware import fabric_nodes
from tests.hardware import nova_scripts
from tests.unit.agent import fakes
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
_FIRST = (_GPUS[5], _GPUS[7])
_LAST = (_GPUS[2], _GPUS[4])


@pytest.fixture(scope="module")
def node(boot):
    """A compute node whose agent listens, and manages one pair."""
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


@pytest.fixture(scope="module")
def told(node, parts):
    """Have Nova build three servers, of which the second fails."""
    nova_scripts.skip_without_libvirt(parts)
    assert node.offered() == set(_PAIR)
    return node.build(_FIRST, _PAIR, _LAST)


def test_nova_knows_the_partitions(node, told):
    tags = {
        pool["tags"]["address"]: codec.parse_text("", pool["tags"][codec.TAG])
        for pool in told["pools"]
    }
    known = {
        id_: {
            name
            for name, address in node.addresses.items()
            if id_ in dict(tags[address].partitions)
        }
        for id_ in managers.HGX_H100
    }
    assert known == {
        id_: {_GPUS[module] for module in modules}
        for id_, modules in managers.HGX_H100.items()
    }


def test_a_server_of_nova_has_its_partition_until_it_is_deleted(node, told):
    first, _, last = told["builds"]
    for seen, gpus, partition in ((first, _FIRST, 5), (last, _LAST, 4)):
        addresses = {node.addresses[one] for one in gpus}
        assert seen["outcome"] == "built"
        assert set(seen["claimed"]) == addresses
        assert seen["console"].count("DMA right") == 2
        assert seen["active"] == [partition]
        assert set(seen["drivers"].values()) == {"vfio-pci"}
        assert seen["active_after"] == seen["domains_after"] == []
        assert seen["drivers_after"] == {
            node.addresses[one]: _RESTING[one] for one in gpus
        }
        assert seen["free_after"] == len(_GPUS)


def test_nova_builds_elsewhere_when_a_partition_fails(node, told):
    # tests/functional/agent/test_reschedule.py has the other host.
    [(said, code)] = told["raised"]
    assert code == fakes.Libvirt.VIR_ERR_HOOK_SCRIPT_FAILED
    assert "FM_ST_NVLINK_ERROR (-10)" in said
    _, failed, _ = told["builds"]
    assert failed["outcome"] == "RescheduledException"
    assert "FM_ST_NVLINK_ERROR (-10)" in failed["reason"]
    assert failed["active_after"] == failed["domains_after"] == []
    # libvirt has not touched them.
    assert failed["drivers_after"] == {
        node.addresses[one]: _RESTING[one] for one in _PAIR
    }
    assert failed["free_after"] == len(_GPUS)


def test_a_partition_that_fails_is_quarantined(node, told):
    wait_for(node, "quarantined")
    for row in node.ask_agent("list", "--state", "quarantined"):
        assert "FM_ST_NVLINK_ERROR" in row["Reason"]
    assert node.offered() == set()


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
