# SPDX-License-Identifier: Apache-2.0

"""What each kind of node has after stack.sh, as Nova reads it."""

from tests.unit.devstack.conftest import run_on

ALL_FILTERS = "nova_gpu_filter.scheduler.filters.all_filters"
ALL_WEIGHERS = "nova_gpu_filter.scheduler.weights.all_weighers"


every_role = run_on("all-in-one", "controller", "compute")
with_api = run_on("all-in-one", "controller")
with_compute = run_on("all-in-one", "compute")


@every_role
def test_nova_reads_the_aliases_back(stacked):
    aliases = stacked.aliases()
    assert set(aliases) == {"h100", "cx7"}
    [spec] = aliases["h100"][1]
    assert spec["resource_class"] == "CUSTOM_GPU_H100"
    assert spec["traits"] == "CUSTOM_NVLINK,HW_GPU_API_VULKAN"
    assert spec["dev_type"] == "type-PF"


@with_compute
def test_nova_compute_reads_the_aliases_back(stacked):
    name = "nova/nova-cpu.conf"
    assert stacked.aliases(name) == stacked.aliases()


@with_compute
def test_nova_compute_reads_the_device_specs_back(stacked):
    gpu, nic = stacked.device_specs("nova/nova-cpu.conf")
    device = {"vendor_id": "10de", "product_id": "2330"}
    assert gpu.match({"address": "0000:0f:00.0", **device})
    assert not gpu.match({"address": "0000:10:00.0", **device})
    assert gpu.get_tags()["gpu_links"] == "nv18:0,pix:3,node:1,fabric:0/8"
    assert gpu.get_tags()["resource_class"] == "CUSTOM_GPU_H100"
    assert nic.match(
        {
            "address": "0001:17:00.1",
            "vendor_id": "15b3",
            "product_id": "1021",
        }
    )


@with_compute
def test_nova_compute_reports_its_devices_to_placement(stacked):
    assert stacked.nova("nova/nova-cpu.conf").pci.report_in_placement


@run_on("controller")
def test_a_node_without_nova_compute_has_no_devices(stacked):
    assert stacked.nova().pci.device_spec == []
    assert not stacked.nova().pci.report_in_placement


@every_role
def test_pci_in_placement_is_set_where_aliases_are_read(stacked):
    # On a compute node too: Nova's help names the other services alone, but
    # nova-compute would refuse the alias "h100", which has no IDs.
    assert stacked.nova().filter_scheduler.pci_in_placement


@with_api
def test_the_conductor_of_a_cell_has_pci_in_placement_alone(stacked):
    options = stacked.nova("nova/nova_cell1.conf")
    assert options.filter_scheduler.pci_in_placement
    assert stacked.options("nova/nova_cell1.conf", "filter_scheduler") == [
        "pci_in_placement = True"
    ]
    assert options.pci.alias == []


@with_api
def test_the_scheduler_has_the_filters_of_nova_and_ours(stacked):
    options = stacked.nova().filter_scheduler
    assert options.available_filters == [
        "nova.scheduler.filters.all_filters",
        ALL_FILTERS,
    ]
    assert options.enabled_filters[0] == "ComputeFilter"
    assert options.enabled_filters[-1] == "GpuPciPassthroughFilter"


@with_api
def test_the_scheduler_has_the_weighers_of_nova_and_ours(stacked):
    options = stacked.nova().filter_scheduler
    assert options.weight_classes == [
        "nova.scheduler.weights.all_weighers",
        ALL_WEIGHERS,
    ]
    assert options.gpu_fragmentation_weight_multiplier == 2.5
    lines = stacked.options("nova/nova.conf", "filter_scheduler")
    assert not [line for line in lines if line.startswith("gpu_topology")]


@with_api
def test_the_scheduler_has_the_matcher_that_was_asked_for(stacked):
    assert stacked.nova().gpu_filter.pool_matcher == "nova"
    assert stacked.options("nova/nova.conf", "gpu_filter") == [
        "pool_matcher = nova"
    ]


@run_on("compute")
def test_a_node_without_scheduler_is_told_nothing_of_it(stacked):
    options = stacked.nova().filter_scheduler
    assert "GpuPciPassthroughFilter" not in options.enabled_filters
    assert options.available_filters == ["nova.scheduler.filters.all_filters"]
    assert stacked.options("nova/nova.conf", "gpu_filter") == []


@with_api
def test_placement_runs_the_extension_and_keeps_the_rest(stacked):
    section = stacked.uwsgi()
    assert section["module"] == "nova_gpu_filter.placement.wsgi:application"
    assert section["add-header"] == "Connection: close"
    assert section["processes"] == "1"


@every_role
def test_the_package_is_installed_under_its_own_name(stacked):
    # setup_develop takes the constraint of that name away first.
    [edit] = [c for c in stacked.calls if c.startswith("edit-constraints")]
    assert edit.endswith("-- nova-gpu-filter")
    [install] = [c for c in stacked.calls if c.startswith("pip_install")]
    path = str(stacked.path / "dest/nova-gpu-filter")
    extras = (
        "scheduler" if stacked.role == "compute" else "scheduler,placement"
    )
    assert install.endswith(f"-e {path}[{extras}]")


@run_on("compute")
def test_a_compute_node_has_no_placement_and_calls_no_api(stacked):
    assert not stacked.etc("placement/placement-uwsgi.ini").exists()
    assert not [c for c in stacked.calls if c.startswith("openstack")]


@with_api
def test_flavors_and_names_are_made_where_the_apis_are(stacked):
    calls = [c for c in stacked.calls if c.startswith("openstack")]
    placement = "openstack --os-placement-api-version"
    assert f"{placement} 1.7 resource class set CUSTOM_GPU_H100" in calls
    assert f"{placement} 1.7 resource class set CUSTOM_PCI_15B3_1021" in calls
    assert f"{placement} 1.6 trait create CUSTOM_NVLINK" in calls
    assert not [c for c in calls if "HW_GPU_API_VULKAN" in c]
    for name, request in (("gpu-h100-1", "h100:1"), ("gpu-cx7-1", "cx7:1")):
        assert (
            "openstack flavor set --property pci_passthrough:alias="
            f"{request} {name}"
        ) in calls
        assert (stacked.path / "flavors" / name).exists()


@every_role
def test_every_phase_ends_well(stacked):
    assert stacked.calls[-1] == "stacked"
