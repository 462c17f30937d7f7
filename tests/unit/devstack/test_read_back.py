# SPDX-License-Identifier: Apache-2.0

"""Nova reads its configuration back before and after services start."""

import importlib.util

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
    assert done.stdout.count(line) == 2
    assert "GpuPciPassthroughFilter" in done.stdout
    assert f"{asking.etc('nova/nova-cpu.conf')}: 2 PCI aliases" in done.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param(
            {"NOVA_GPU_PCI_ALIAS": [{"name": "a1", "device_type": "GPU"}]},
            "[pci]alias: Invalid PCI alias definition",
            id="an alias that Nova refuses",
        ),
        pytest.param(
            {"NOVA_GPU_DEVICE_SPEC": [{"vendor_id": "10deX"}]},
            "[pci]device_spec: ",
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


def test_a_filter_that_another_plugin_took_away_is_missed(asking):
    plugin = asking.path / "dest/other/devstack"
    plugin.mkdir(parents=True)
    (plugin / "plugin.sh").write_text(
        'if [[ "$1/$2" == stack/post-config ]]; then\n'
        "    iniset $NOVA_CONF filter_scheduler available_filters"
        " nova.scheduler.filters.all_filters\n"
        "fi\n"
    )
    asking.plugins = ["nova-gpu-filter", "other"]
    done = asking.run("stack", check=False)
    assert done.returncode != 0
    assert "enabled_filters names GpuPciPassthroughFilter, not among" in (
        done.stdout
    )


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
    assert f"{asking.etc('nova/nova-cpu.conf')}: 2 PCI aliases" in done.stdout
    assert ": filters " not in done.stdout
