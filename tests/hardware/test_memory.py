# SPDX-License-Identifier: Apache-2.0

"""What a guest wrote to the memory of a device, the next one cannot read.

The guests' operating system reads that memory, by DMA where the device does
that, before it writes a mark there. The memory is QEMU's, which no reset
clears. NVIDIA's tool is one of ours with its options, which clears it.
"""

import re

import pytest

from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import reserving
from tests.functional.fleet import adapters
from tests.functional.placement import service
from tests.hardware import emulated_machines
from tests.hardware import fabric_nodes
from tests.hardware import parts as parts_lib

_GPUS = ("gpu0", "gpu1")
_IDS = {"gpu0": "10de:2330 class 0302", "gpu1": "1002:74a1 class 1200"}
_CLEAN = dict.fromkeys(_GPUS, "memory clean")
_MARKED = dict.fromkeys(_GPUS, "memory holds 5ec4e701 at 00000000")
_TOOL = "/run/nvidia_gpu_tools.py"
_CONF = f"""\
[gpu_agent]
gpu_admin_tools = {_TOOL}
"""
# It waits, and fails, when the test says so.
_CLEAR = f"""\
#!/bin/sh
echo "$0 $*" >>/run/calls
while [ -e /run/hold ]; do sleep 0.2; done
if [ -e /run/fail ]; then echo "the memory is stuck"; exit 3; fi
exec {parts_lib.PYTHON} {parts_lib.SOURCES}/clear_memory.py "$@"
"""
# What an operator has for other GPUs.
_HOOK = f"""\
#!/bin/sh
read -r vendor </sys/bus/pci/devices/$GPU_AGENT_DEVICE/vendor
[ "$vendor" = 0x1002 ] || exit 0
exec {_TOOL} --gpu-bdf=$GPU_AGENT_DEVICE --reset-with-sbr --clear-memory
"""


@pytest.fixture(scope="module")
def node(boot):
    """A compute node whose agent manages two GPUs."""
    machine = emulated_machines.MEMORY
    with fabric_nodes.start(boot, machine) as (made, placement):
        placement.replace_providers(made.providers(_GPUS))
        made.install()
        made.bind_for_guests(*_GPUS)
        made.start_agent()
        _wait_for(made, "free")
        made.placement = placement
        yield made


def _wait_for(node, state):
    node.wait(
        lambda: node.devices(*_GPUS) == dict.fromkeys(_GPUS, state),
        lambda: node.devices(*_GPUS),
    )


def _start_guest(node, name):
    """Have a guest look at both GPUs.

    :returns: what it finds in their memory.
    """
    assert node.create(name, *_GPUS) == ""
    path = f"/run/{name}.console"
    node.wait(
        lambda: "end" in node.guest.shell(f"cat {path}").split("\n"),
        lambda: node.guest.shell(f"cat {path}"),
    )
    said = node.guest.shell(f"cat {path}").splitlines()
    found = {}
    for gpu, ids in _IDS.items():
        place = said.index(f"device {ids}")
        found[gpu] = next(
            line for line in said[place:] if line.startswith("memory ")
        )
    return found


def _reasons(node, state):
    """Read from its log why the agent has last brought each GPU there."""
    log = (node.guest.state / "agent.log").read_text()
    found = {}
    for gpu in _GPUS:
        said = rf"Device {node.addresses[gpu]} is {state}: (.*) \("
        found[gpu] = re.findall(said, log)[-1]
    return found


def _release(node):
    """Release both from the controller, as an operator does."""
    adapter = adapters.PlacementAdapter(node.placement)
    ways = [
        make(adapter, "Placement", "1.31")
        for make in (api.make_getter, api.make_sender)
    ]
    for gpu in _GPUS:
        name = node.name(node.addresses[gpu])
        reserving.release(*ways, service.provider_uuid(name))


def _install_tools(node):
    state = node.guest.state
    hooks = state / "etc" / "nova-gpu-agent" / "before.d"
    hooks.mkdir(parents=True)
    (state / "etc" / "nova" / "memory.conf").write_text(_CONF)
    (hooks / "clear-memory").write_text(_HOOK)
    (state / "tool").write_text(_CLEAR)
    node.guest.shell(
        f"cp /state/tool {_TOOL};"
        f" chmod 755 {_TOOL} /etc/nova-gpu-agent/before.d/clear-memory;"
        " chmod go-w /etc/nova-gpu-agent/before.d"
    )


def test_a_reset_leaves_what_a_guest_wrote(node):
    assert _start_guest(node, "first") == _CLEAN
    node.destroy("first")
    _wait_for(node, "free")
    for reason in _reasons(node, "free").values():
        assert reason.endswith("its memory was not cleared")
    assert _start_guest(node, "second") == _MARKED


def test_a_guest_finds_nothing_where_tool_and_hook_clear_memory(node):
    _install_tools(node)
    node.end_agent()
    node.start_agent()
    node.guest.shell("touch /run/hold")
    node.destroy("second")
    options = "--reset-with-sbr --clear-memory"
    called = {
        f"{_TOOL} --gpu-bdf={node.addresses[gpu]} {options}" for gpu in _GPUS
    }
    node.wait(
        lambda: (
            {*node.guest.shell("cat /run/calls || true").splitlines()}
            == called
        )
    )
    assert node.devices(*_GPUS) == dict.fromkeys(_GPUS, "reserved")
    node.guest.shell("rm /run/hold")
    _wait_for(node, "free")
    # It is written down after Placement was told.
    clean = {"clean, and offered again"}
    node.wait(lambda: set(_reasons(node, "free").values()) == clean)
    assert _start_guest(node, "third") == _CLEAN


def test_a_device_whose_memory_is_not_cleared_is_quarantined(node):
    node.guest.shell("touch /run/fail")
    node.destroy("third")
    _wait_for(node, "quarantined")
    for reason in _reasons(node, "quarantined").values():
        assert reason.endswith("ended with 3: the memory is stuck")
    node.guest.shell("rm /run/fail")
    _release(node)
    _wait_for(node, "free")
    assert _start_guest(node, "fourth") == _CLEAN
