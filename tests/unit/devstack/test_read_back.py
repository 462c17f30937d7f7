# SPDX-License-Identifier: Apache-2.0

"""Nova reads its configuration back before services start; nova-gpu-status
checks everything at the end."""

import importlib.util
import pathlib

import pytest


def here(module):
    """Whether a module of the product is there."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def asking(machine):
    machine.ask_nova()
    # What is not in this tree is switched off, so that the rest is tested.
    machine.set(
        NOVA_GPU_CHECK="True",
        NOVA_GPU_WEIGHERS=str(here("nova_gpu_filter.scheduler.weights")),
        NOVA_GPU_PLACEMENT_EXTENSION=str(
            here("nova_gpu_filter.placement.wsgi")
        ),
        NOVA_GPU_FLAVORS="none",
    )
    return machine


def test_what_the_plugin_writes_is_what_nova_loads(asking):
    done = asking.run("stack")
    conf = asking.etc("nova/nova.conf")
    line = f"{conf}: 2 PCI aliases (cx7, h100), 2 device specs"
    assert done.stdout.count(line) == 1
    assert f"{conf}: filters, weighers and pool matcher" in done.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param(
            {"NOVA_GPU_PCI_ALIAS": [{"name": "a1", "device_type": "GPU"}]},
            "Invalid PCI alias definition",
            id="an alias that Nova refuses",
        ),
        pytest.param(
            {"NOVA_GPU_DEVICE_SPEC": [{"vendor_id": "10deX"}]},
            "[pci]device_spec = ",
            id="a device spec that Nova refuses",
        ),
        pytest.param(
            {"NOVA_GPU_POOL_MATCHER": "no-such-matcher"},
            "no-such-matcher",
            id="a matcher that is not installed",
        ),
    ],
)
def test_what_nova_refuses_stops_stack_before_services_start(
    asking, variables, message
):
    asking.set(**variables)
    done = asking.run("stack", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert f"Nova cannot use {asking.etc('nova/nova.conf')}" in done.stdout
    assert not [c for c in asking.calls if c.startswith("run_process")]


def test_a_module_that_is_not_there_is_missed(asking):
    asking.set(NOVA_GPU_PLACEMENT_EXTENSION="True")
    done = asking.run(
        "call",
        "mkdir -p $NOVA_CONF_DIR $PLACEMENT_CONF_DIR; create_nova_conf;"
        "NOVA_GPU_PLACEMENT_MODULE=nova_gpu_filter.nowhere:application;"
        "touch $PLACEMENT_UWSGI_CONF;"
        "_nova_gpu_configure_scheduler; _nova_gpu_configure_placement;"
        "_nova_gpu_read_back $NOVA_CONF",
        check=False,
    )
    assert done.returncode != 0
    assert "cannot load 'nova_gpu_filter.nowhere:application'" in done.stdout


def test_a_compute_node_is_not_asked_for_filters(asking):
    asking.role = "compute"
    done = asking.run("stack")
    assert f"{asking.etc('nova/nova.conf')}: 2 PCI aliases" in done.stdout
    assert ": filters, " not in done.stdout


def asked_for_status(machine):
    """List what nova-gpu-status was called with: (role, file)."""
    return [
        (words[4], pathlib.Path(words[2]).name)
        for words in map(str.split, machine.calls)
        if words[0] == "nova-gpu-status"
    ]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (
            "all-in-one",
            [("controller", "nova.conf"), ("compute", "nova-cpu.conf")],
        ),
        ("controller", [("controller", "nova.conf")]),
        ("compute", [("compute", "nova-cpu.conf")]),
    ],
)
def test_each_role_is_checked_with_its_own_file(machine, role, expected):
    machine.role = role
    machine.run("stack")
    assert asked_for_status(machine) == expected


def test_placement_is_checked_where_its_file_is(machine):
    path = machine.etc("placement/placement.conf")
    path.parent.mkdir(parents=True)
    path.touch()
    machine.run("stack")
    calls = [c for c in machine.calls if c.startswith("nova-gpu-status ")]
    assert f"--placement-conf {path} upgrade check" in calls[0]


def test_nothing_is_checked_where_that_is_turned_off(machine):
    machine.set(NOVA_GPU_CHECK="False")
    machine.run("stack")
    assert asked_for_status(machine) == []


def test_warnings_of_nova_gpu_status_let_stack_go_on(machine):
    (machine.path / "status-code").write_text("1")
    machine.run("stack")
    assert machine.calls[-1] == "stacked"


@pytest.mark.parametrize("code", ["2", "255"])
def test_failures_of_nova_gpu_status_stop_stack(machine, code):
    (machine.path / "status-code").write_text(code)
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert "nova-gpu-status found failures in" in done.stdout
    assert "stacked" not in machine.calls


NEED_PLACEMENT = {
    "Placement API",
    "Names in Placement",
    "Placement extension",
    "Placement limits",
    "Races in Placement",
    "Links of devices",
    "Owners of devices",
    "Scheduler workers",
}
"""What nova-gpu-status cannot check in a sandbox."""


def test_what_the_plugin_writes_passes_nova_gpu_status(machine):
    machine.run("stack")
    found = machine.status()
    assert {name for name, (code, _) in found.items() if code} == {
        "PCI device specs",  # in the sandbox they have links without traits
        *NEED_PLACEMENT,
    }


def test_a_filter_that_another_plugin_took_away_is_missed(machine):
    plugin = machine.path / "dest/other/devstack"
    plugin.mkdir(parents=True)
    (plugin / "plugin.sh").write_text(
        'if [[ "$1/$2" == stack/post-config ]]; then\n'
        "    iniset $NOVA_CONF filter_scheduler available_filters"
        " nova.scheduler.filters.all_filters\n"
        "fi\n"
    )
    machine.plugins = ["nova-gpu-filter", "other"]
    machine.run("stack")
    code, details = machine.status()["Scheduler filter"]
    assert code == 2
    assert "enabled_filters names GpuPciPassthroughFilter, which" in details
