# SPDX-License-Identifier: Apache-2.0

"""What DevStack does to careless plugins does not happen to this one.

test_devstack_functions.py shows the traps, this file the ways around them.
"""

import nova.exception
import pytest

from tests.unit.devstack import sandbox


def enabled(machine):
    return machine.nova().filter_scheduler.enabled_filters


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A,B", "A,B,GpuPciPassthroughFilter"),
        ("", "GpuPciPassthroughFilter"),
        (
            "A, PciPassthroughFilter, NUMATopologyFilter",
            "A,GpuPciPassthroughFilter,NUMATopologyFilter",
        ),
        (
            "A,NUMATopologyFilter,B",
            "A,GpuPciPassthroughFilter,NUMATopologyFilter,B",
        ),
        ("A,GpuPciPassthroughFilter,B", "A,GpuPciPassthroughFilter,B"),
        (
            "GpuPciPassthroughFilter,PciPassthroughFilter",
            "GpuPciPassthroughFilter",
        ),
    ],
)
def test_our_filter_finds_its_place_in_any_list(machine, before, after):
    done = machine.run("call", f"nova_gpu_with_filter '{before}'")
    assert done.stdout.splitlines()[-1] == after


@pytest.mark.parametrize("role", ["controller", "compute"])
def test_tempest_is_told_of_our_filter_where_the_scheduler_runs(machine, role):
    # lib/tempest writes NOVA_FILTERS to tempest.conf.
    machine.role = role
    done = machine.run("call", "echo $NOVA_FILTERS")
    filters = done.stdout.splitlines()[-1].split(",")
    assert filters[0] == "ComputeFilter"
    assert ("GpuPciPassthroughFilter" in filters) == (role == "controller")


def test_filters_that_are_added_by_other_plugins_are_kept(machine):
    # As Cyborg's pci_sim does, in post-config and with Nova's own filter.
    plugin = machine.path / "dest/other/devstack"
    plugin.mkdir(parents=True)
    (plugin / "plugin.sh").write_text(
        'if [[ "$1/$2" == stack/post-config ]]; then\n'
        "    async_wait configure_neutron_nova\n"
        "    iniset $NOVA_CONF filter_scheduler available_filters"
        " nova.scheduler.filters.all_filters\n"
        "    iniset $NOVA_CONF filter_scheduler enabled_filters"
        ' "$NOVA_FILTERS,PciPassthroughFilter,NUMATopologyFilter"\n'
        "fi\n"
    )
    machine.plugins = ["other", "nova-gpu-filter"]
    machine.run("stack")
    assert enabled(machine)[-2:] == [
        "GpuPciPassthroughFilter",
        "NUMATopologyFilter",
    ]
    assert "PciPassthroughFilter" not in enabled(machine)
    assert len(machine.nova().filter_scheduler.available_filters) == 2


def test_what_neutron_writes_at_the_same_time_is_kept_and_so_is_ours(machine):
    machine.run("stack")
    assert "auth_type = password" in machine.options(
        "nova/nova.conf", "neutron"
    )
    assert set(machine.aliases()) == {"h100", "cx7"}


def test_local_conf_has_the_last_word(machine):
    machine.set(NOVA_GPU_TOPOLOGY_WEIGHT="2.0")
    machine.extra_local_conf = (
        "[[post-config|$NOVA_CONF]]\n[filter_scheduler]\n"
        "gpu_topology_weight_multiplier = 7.0\n"
        "[[post-config|$NOVA_CPU_CONF]]\n[pci]\nreport_in_placement = False\n"
    )
    machine.run("stack")
    lines = machine.options("nova/nova.conf", "filter_scheduler")
    assert "gpu_topology_weight_multiplier = 7.0" in lines
    assert not machine.nova("nova/nova-cpu.conf").pci.report_in_placement
    machine.run("unstack")
    lines = machine.options("nova/nova.conf", "filter_scheduler")
    assert "gpu_topology_weight_multiplier = 7.0" in lines


HARD_VALUES = [
    "a  b",
    "*",
    "[abc]",
    r"\d\\d\u0041",
    "a$b ${HOME} $$",
    "a&b|c/d;e",
    "it\u2019s h\u00e9 \U0001f5a5",
    'say "x"',
    "a\tb",
    "-n",
    "# no comment",
]


def test_any_json_reaches_nova_as_it_was_written(machine):
    for name in "abc":
        (machine.path / name).touch()
    machine.set(
        NOVA_GPU_PCI_ALIAS="",
        NOVA_GPU_DEVICE_SPEC=[
            {"vendor_id": "10de", "note": value} for value in HARD_VALUES
        ],
    )
    machine.role = "compute"
    machine.run("stack")
    specs = machine.device_specs("nova/nova-cpu.conf")
    assert [spec.get_tags()["note"] for spec in specs] == HARD_VALUES
    machine.run("unstack")
    assert machine.nova().pci.device_spec == []


def test_what_is_listed_twice_is_written_once(machine):
    machine.set(NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC * 2)
    machine.run("stack")
    assert len(machine.device_specs()) == len(sandbox.DEVICE_SPEC)


def test_an_address_may_be_a_regular_expression(machine):
    address = {
        "domain": ".*",
        "bus": "(0f|1[0-9])",
        "slot": "0[0-1]$",
        "function": "[0-7]",
    }
    machine.set(NOVA_GPU_DEVICE_SPEC=[{"address": address}])
    machine.run("stack")
    [spec] = machine.device_specs("nova/nova-cpu.conf")
    device = {"vendor_id": "10de", "product_id": "2330"}
    assert spec.match({"address": "0000:1a:00.0", **device}) is False
    assert spec.match({"address": "0000:15:01.0", **device})


def test_one_object_will_do_for_a_list(machine):
    machine.set(NOVA_GPU_PCI_ALIAS=sandbox.ALIAS[0])
    machine.run("stack")
    assert set(machine.aliases()) == {"h100"}


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("NOVA_GPU_PCI_ALIAS", "[{name:a1}]", "in single quotes"),
        ("NOVA_GPU_PCI_ALIAS", '[{"vendor_id": "10de"}]', "has no name"),
        ("NOVA_GPU_PCI_ALIAS", '["a1"]', "not a list of JSON objects"),
        ("NOVA_GPU_DEVICE_SPEC", '[{"a": ]', "is not JSON: Expecting value"),
        ("NOVA_GPU_TOPOLOGY_WEIGHT", "high", "must be a number, not high"),
        ("USE_VENV", "True", "does not work with USE_VENV"),
    ],
)
def test_bad_settings_stop_stack_before_anything_is_installed(
    machine, variable, text, message
):
    machine.set(**{variable: text})
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert not [c for c in machine.calls if c.startswith("pip_install")]


def test_quotes_that_local_conf_would_lose_stop_stack(machine):
    machine.extra_local_conf = (
        "[[post-config|$NOVA_CONF]]\n[pci]\n"
        'alias = {"name": "a1", "vendor_id": "10de", "product_id": "11bf"}\n'
    )
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert "strip the quotes from [pci]alias in" in done.stdout
    assert "NOVA_GPU_PCI_ALIAS" in done.stdout


def test_quotes_that_local_conf_keeps_are_let_through(machine):
    text = '{"name":"a1","vendor_id":"10de","product_id":"11bf"}'
    escaped = text.replace('"', r"\\\"")
    machine.extra_local_conf = (
        f"[[post-config|$NOVA_CONF]]\n[pci]\nalias = {escaped}\n"
    )
    machine.set(NOVA_GPU_PCI_ALIAS=sandbox.ALIAS[0])
    machine.run("stack")
    assert set(machine.aliases()) == {"a1"}


def test_available_filters_that_lose_ours_stop_stack(machine):
    machine.extra_local_conf = (
        "[[post-config|$NOVA_CONF]]\n[filter_scheduler]\n"
        "available_filters = nova.scheduler.filters.all_filters\n"
    )
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert "takes the place of every line of it" in done.stdout


def test_available_filters_that_keep_ours_are_let_through(machine):
    names = [
        "nova.scheduler.filters.all_filters",
        "nova_gpu_filter.scheduler.filters.all_filters",
        "mine.all_filters",
    ]
    machine.extra_local_conf = (
        "[[post-config|$NOVA_CONF]]\n[filter_scheduler]\n"
        + "".join(f"available_filters = {name}\n" for name in names)
    )
    machine.run("stack")
    assert machine.nova().filter_scheduler.available_filters == names


def test_enabled_filters_that_lose_ours_are_warned_of(machine):
    machine.extra_local_conf = (
        "[[post-config|$NOVA_CONF]]\n[filter_scheduler]\n"
        "enabled_filters = ComputeFilter\n"
    )
    done = machine.run("stack")
    assert "has no GpuPciPassthroughFilter" in done.stdout
    assert enabled(machine) == ["ComputeFilter"]


def test_the_module_that_placement_runs_cannot_be_lost(machine):
    machine.set(PLACEMENT_UWSGI="mine:application")
    machine.run("stack")
    assert machine.uwsgi()["module"] == (
        "nova_gpu_filter.placement.wsgi:application"
    )


def test_placement_stays_stock_where_the_extension_is_off(machine):
    machine.set(NOVA_GPU_PLACEMENT_EXTENSION="False")
    machine.run("stack")
    assert machine.uwsgi()["module"] == "placement.wsgi.api:application"


def test_a_script_that_uwsgi_would_run_makes_way_and_comes_back(machine):
    machine.run(
        "call",
        "mkdir -p $PLACEMENT_CONF_DIR; touch $PLACEMENT_UWSGI_CONF;"
        "iniset $PLACEMENT_UWSGI_CONF uwsgi wsgi-file /usr/bin/placement-api;"
        "_nova_gpu_configure_placement",
    )
    assert machine.uwsgi() == {
        "module": "nova_gpu_filter.placement.wsgi:application"
    }
    machine.run("unstack")
    assert machine.uwsgi() == {"wsgi-file": "/usr/bin/placement-api"}


def test_placement_without_uwsgi_stops_stack_with_the_switch_to_turn(machine):
    done = machine.run("call", "_nova_gpu_configure_placement", check=False)
    assert done.returncode != 0
    assert "set NOVA_GPU_PLACEMENT_EXTENSION=False" in done.stdout


@pytest.mark.parametrize("role", sandbox.ROLES)
def test_no_phase_trips_over_errexit_when_nothing_is_set(machine, role):
    machine.role = role
    machine.localrc = {}
    done = machine.run("stack")
    assert machine.calls[-1] == "stacked"
    assert machine.nova().pci.alias == []
    assert ("no flavor can ask for a GPU" in done.stdout) == (
        role != "compute"
    )


def test_no_variable_is_read_before_it_is_set(tmp_path):
    # DevStack offers NOUNSET, but not all of its own functions stand it.
    machine = sandbox.Sandbox(tmp_path)
    machine.set(
        NOVA_GPU_PCI_ALIAS=sandbox.ALIAS,
        NOVA_GPU_DEVICE_SPEC=sandbox.DEVICE_SPEC,
    )
    machine.run("stack", NOUNSET="1")
    assert machine.calls[-1] == "stacked"


def test_an_alias_of_ids_works_without_placement(machine):
    machine.set(
        NOVA_GPU_PCI_IN_PLACEMENT="False",
        NOVA_GPU_PCI_ALIAS=[
            {"name": "a1", "vendor_id": "10de", "product_id": "11bf"}
        ],
    )
    machine.run("stack")
    assert set(machine.aliases("nova/nova-cpu.conf")) == {"a1"}
    assert not machine.nova().filter_scheduler.pci_in_placement
    assert not machine.nova().pci.report_in_placement


def test_an_alias_of_a_class_is_refused_without_placement(machine):
    # Nova's rule, on which test_roles.py relies.
    machine.set(NOVA_GPU_PCI_IN_PLACEMENT="False")
    machine.run("stack")
    with pytest.raises(nova.exception.PciInvalidAlias):
        machine.aliases()


def test_weighers_can_be_left_out(machine):
    machine.set(NOVA_GPU_WEIGHERS="False", NOVA_GPU_TOPOLOGY_WEIGHT="1.0")
    machine.run("stack")
    text = machine.etc("nova/nova.conf").read_text()
    assert "weight" not in text


def test_each_weigher_can_be_given_a_weight(machine):
    machine.set(
        NOVA_GPU_FRAGMENTATION_WEIGHT="0.5",
        NOVA_GPU_TOPOLOGY_WEIGHT="2.0",
    )
    machine.run("stack")
    lines = machine.options("nova/nova.conf", "filter_scheduler")
    assert {
        "gpu_fragmentation_weight_multiplier = 0.5",
        "gpu_topology_weight_multiplier = 2.0",
    } <= set(lines)
    machine.run("unstack")
    assert (
        "_weight_multiplier" not in machine.etc("nova/nova.conf").read_text()
    )


def test_weighers_of_others_are_kept(machine):
    machine.run(
        "call",
        "mkdir -p $NOVA_CONF_DIR; create_nova_conf;"
        "iniset $NOVA_CONF filter_scheduler weight_classes a.B,c.D;"
        "_nova_gpu_configure_scheduler; _nova_gpu_configure_scheduler",
    )
    assert machine.nova().filter_scheduler.weight_classes == [
        "a.B",
        "c.D",
        "nova_gpu_filter.scheduler.weights.all_weighers",
    ]
