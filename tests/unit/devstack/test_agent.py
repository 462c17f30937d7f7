# SPDX-License-Identifier: Apache-2.0

"""nova-gpu-agent on a compute node, by one variable."""

import pytest

from tests.unit.devstack import sandbox

SPEC = """\
[pci]
device_spec = {"address": "0000:0f:00.0", "one_time_use": "true"}
"""


@pytest.fixture
def node(machine):
    """Make a node that finds its devices itself, with the agent."""
    machine.set(
        NOVA_GPU_AGENT="True",
        NOVA_GPU_DEVICE_SPEC="auto",
        NOVA_GPU_CHECK="False",
    )
    (machine.path / "compute.conf").write_text(SPEC)
    return machine


def processes(machine):
    return [c for c in machine.calls if c.startswith("run_process gpu-agent")]


def test_the_agent_is_installed_and_runs_beside_nova_compute(node):
    done = node.run("stack")
    conf = node.etc("nova/nova-cpu.conf")
    assert processes(node) == [
        f"run_process gpu-agent nova-gpu-agent run --config-file {conf}  root"
    ]
    [installed] = [c for c in node.calls if c.startswith("pip_install")]
    assert installed.endswith("[scheduler,placement,agent]")
    # nova-compute has to be there first.
    calls = [c.partition(" --config-file")[0] for c in node.calls]
    assert calls.index("run_process n-cpu nova-compute") < calls.index(
        "run_process gpu-agent nova-gpu-agent run"
    )
    assert (
        "nova-gpu-host config --report-in-placement --one-time-use"
        in node.calls
    )
    ledger = node.path / "dest/data/nova-gpu-filter/agent/ledger.sqlite"
    assert node.options("nova/nova-cpu.conf", "gpu_agent") == [
        f"ledger = {ledger}"
    ]
    assert "one_time_use" not in done.stdout


def test_a_controller_runs_no_agent(node):
    node.role = "controller"
    node.run("stack")
    assert processes(node) == []
    assert "[gpu_agent]" not in node.etc("nova/nova.conf").read_text()


def test_without_the_variable_nothing_is_of_one_time_use(machine):
    machine.set(NOVA_GPU_DEVICE_SPEC="auto", NOVA_GPU_CHECK="False")
    (machine.path / "compute.conf").write_text(SPEC)
    machine.run("stack")
    assert processes(machine) == []
    assert "nova-gpu-host config" in machine.calls


def test_device_specs_without_one_time_use_are_told(node):
    node.set(NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC)
    assert "no device spec has one_time_use" in node.run("stack").stdout


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"VIRT_DRIVER": "fake"}, "needs VIRT_DRIVER=libvirt, not fake"),
        (
            {"NOVA_GPU_PCI_IN_PLACEMENT": "False"},
            "needs NOVA_GPU_PCI_IN_PLACEMENT=True",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_once(node, variables, reason):
    node.set(**variables)
    done = node.run("stack", check=False)
    assert done.returncode != 0
    assert f"NOVA_GPU_AGENT=True {reason}" in done.stdout


def test_unstack_and_clean_end_the_agent_and_remove_its_ledger(node):
    node.run("stack")
    agent = node.path / "dest/data/nova-gpu-filter/agent"
    agent.mkdir()
    before = len(node.calls)
    node.run("unstack")
    assert "stop_process gpu-agent" in node.calls[before:]
    # The ledger is for devices that are still reserved.
    assert agent.exists()
    node.run("clean")
    assert not agent.exists()
    assert not agent.parent.exists()
