# SPDX-License-Identifier: Apache-2.0

"""stack.sh may be run again, and unstack.sh and clean.sh take it all back."""

import pytest

from tests.unit.devstack import sandbox


def options(machine):
    """List what is set below /etc: {(file, section, line), ...}.

    Empty sections are nothing; of lists the order counts.
    """
    found = []
    for name, text in machine.files().items():
        section = ""
        for line in text.splitlines():
            if line.startswith("["):
                section = line
            elif line:
                found.append((name, section, line))
    return sorted(found)


@pytest.fixture(params=sandbox.ROLES)
def node(request, machine):
    machine.role = request.param
    return machine


def test_stacking_again_gives_the_same_files(node):
    node.run("stack")
    first = node.files()
    node.run("stack")
    assert node.files() == first


def test_configuring_again_gives_the_same_files(node):
    node.run("stack")
    first = node.files()
    node.run("call", "nova_gpu_configure; nova_gpu_configure")
    assert node.files() == first


def test_unstack_leaves_what_there_would_be_without_us(node):
    node.run("stack")
    node.run("unstack")
    left = options(node)
    node.plugins = []
    node.run("stack")
    assert left == options(node)


def test_unstacking_twice_or_never_stacked_is_fine(node):
    node.run("unstack")
    node.run("stack")
    node.run("unstack")
    left = node.files()
    node.run("unstack")
    assert node.files() == left


def test_clean_removes_our_state_and_calls_no_pip(node):
    # The pip that clean.sh has is the system's, which refuses to work.
    node.run("stack")
    assert (node.path / "dest/data/nova-gpu-filter").exists()
    before = len(node.calls)
    done = node.run("clean")
    assert not [c for c in node.calls[before:] if "pip" in c]
    assert "pip" not in done.stdout
    assert not (node.path / "dest/data/nova-gpu-filter").exists()


def test_flavors_are_made_once_and_set_each_time(machine):
    machine.ask_nova()
    machine.set(NOVA_GPU_FLAVORS="h100:4 h100:4,cx7:4")
    machine.run("stack")
    machine.run("stack")
    calls = [c for c in machine.calls if c.startswith("openstack flavor")]
    created = [c for c in calls if " create " in c]
    assert len(created) == 2
    assert created[1].split()[-1] == "gpu-h100-4-cx7-4"
    set_property = "openstack flavor set --property pci_passthrough:alias="
    assert calls.count(f"{set_property}h100:4,cx7:4 gpu-h100-4-cx7-4") == 2


def test_each_alias_gets_a_flavor_with_one_device(machine):
    machine.ask_nova()
    machine.set(NOVA_GPU_CHECK="False")
    machine.run("stack")
    assert {each.name for each in (machine.path / "flavors").iterdir()} == {
        "gpu-h100-1",
        "gpu-cx7-1",
    }


def test_a_number_makes_a_flavor_with_so_many_of_each_alias(machine):
    machine.ask_nova()
    machine.set(NOVA_GPU_CHECK="False", NOVA_GPU_FLAVORS="2 4 h100:4,cx7:4")
    machine.run("stack")
    assert {each.name for each in (machine.path / "flavors").iterdir()} == {
        "gpu-h100-2",
        "gpu-cx7-2",
        "gpu-h100-4",
        "gpu-cx7-4",
        "gpu-h100-4-cx7-4",
    }


def test_flavors_can_be_left_to_the_operator(machine):
    machine.ask_nova()
    machine.set(NOVA_GPU_CHECK="False", NOVA_GPU_FLAVORS="none")
    machine.run("stack")
    assert not [c for c in machine.calls if " flavor " in c]
