# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-status`` as it is typed, against a real Placement."""

import contextlib
import itertools
import json
import pathlib
import shlex
import subprocess
import sys

import pytest

from tests import warm_python
from tests.functional import web as serving

HOSTS = 2
GPUS = 6
RESOURCE_CLASS = "CUSTOM_GPU_H100"

CONTROLLER = """
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_gpu_filter.scheduler.filters.all_filters
enabled_filters = ComputeFilter,GpuPciPassthroughFilter,NUMATopologyFilter
weight_classes = nova.scheduler.weights.all_weighers,\
nova_gpu_filter.scheduler.weights.all_weighers
pci_in_placement = true
[pci]
alias = {"name": "h100", "device_type": "type-PF",\
 "resource_class": "CUSTOM_GPU_H100"}
"""
COMPUTE = """
[filter_scheduler]
pci_in_placement = true
[pci]
report_in_placement = true
alias = {"name": "h100", "device_type": "type-PF",\
 "resource_class": "CUSTOM_GPU_H100"}
device_spec = {"vendor_id": "10de", "product_id": "2330",\
 "resource_class": "CUSTOM_GPU_H100"}
"""


@pytest.fixture(scope="module")
def web():
    """Serve a Placement with and without the extension, and with both in
    turn: URLs by name."""
    from tests.functional.placement import service

    def device(host, number):
        linked = host == 0
        return service.Provider(
            f"host{host}_0000:{number:02X}:00.0",
            f"host{host}",
            {RESOURCE_CLASS: service.Inventory(1)},
            (
                "COMPUTE_MANAGED_PCI_DEVICE",
                *(("CUSTOM_GPU_LINK_NV18_0",) if linked else ()),
            ),
        )

    with service.Placement() as placement:
        placement.replace_providers(
            provider
            for host in range(HOSTS)
            for provider in (
                service.Provider(
                    f"host{host}",
                    inventories={"MEMORY_MB": service.Inventory(1024)},
                ),
                *(device(host, number) for number in range(1, GPUS + 1)),
            )
        )
        with contextlib.ExitStack() as stack:
            turns = itertools.cycle(placement.applications.values())

            def mixed(environ, start_response):
                return next(turns)(environ, start_response)

            yield {
                name: stack.enter_context(serving.serve(application))
                for name, application in (
                    *placement.applications.items(),
                    ("mixed", mixed),
                )
            }


def conf(url, text):
    """Add credentials for a Placement to a nova.conf."""
    return (
        f"{text}\n[placement]\nauth_type = admin_token\n"
        f"endpoint = {url}\ntoken = admin\n"
    )


@pytest.fixture
def status(tmp_path):
    """Return a function that runs the command on the text of a nova.conf.

    In a process that has imported Nova, unless ``is_fresh``.
    """

    def run(text, *arguments, before=(), is_fresh=False):
        path = tmp_path / "nova.conf"
        path.write_text(text)
        start = []
        if not is_fresh:
            start += shlex.split(warm_python.command(*warm_python.NOVA))
            start += ["-W", "ignore"]
        command = pathlib.Path(sys.executable).with_name("nova-gpu-status")
        return subprocess.run(
            [*start, command, "--config-file", path, *before, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def checks(done):
    """Read the JSON: {check: (code, details)}."""
    report = json.loads(done.stdout)
    assert report["name"] == "GPU Scheduling Check Results"
    return {
        each["check"]: (each["result"], each["details"])
        for each in report["checks"]
    }


def problems(done):
    """Read the JSON: the names of the checks that did not succeed."""
    return {name for name, (code, _) in checks(done).items() if code}


def test_a_controller_with_the_extension_has_only_unknown_links(status, web):
    done = status(conf(web["ours"], CONTROLLER), "upgrade", "check", "--json")
    assert problems(done) == {"Links of devices"}
    assert done.returncode == 1
    code, details = checks(done)["Links of devices"]
    assert code == 1
    assert f"The links of {RESOURCE_CLASS} are not known on host1," in details


def test_a_stock_placement_is_told_from_ours(status, web):
    done = status(conf(web["stock"], CONTROLLER), "upgrade", "check", "--json")
    assert problems(done) == {
        "Placement extension",
        "Placement limits",
        "Races in Placement",
        "Links of devices",
    }
    assert done.returncode == 1
    assert f"up to {GPUS} devices" in checks(done)["Placement limits"][1]


def test_one_api_of_two_without_the_extension_is_found(status, web):
    done = status(conf(web["mixed"], CONTROLLER), "upgrade", "check", "--json")
    code, details = checks(done)["Placement extension"]
    assert code == 1
    assert "Of 4 answers of Placement, 2 came with the extension" in details


def test_a_compute_is_ready(status, web):
    done = status(conf(web["ours"], COMPUTE), "upgrade", "check", "--json")
    assert problems(done) == set()
    assert done.returncode == 0
    assert "this is no controller" in checks(done)["Placement extension"][1]


def test_a_name_that_placement_does_not_know_is_told(status, web):
    text = CONTROLLER.replace(RESOURCE_CLASS, "CUSTOM_GPU_H200").replace(
        '"device_type"', '"traits": "CUSTOM_NOWHERE", "device_type"'
    )
    done = status(conf(web["ours"], text), "upgrade", "check", "--json")
    assert problems(done) == {"Names in Placement"}
    assert (
        "[pci]alias h100 asks for CUSTOM_GPU_H200 and CUSTOM_NOWHERE, which"
        in checks(done)["Names in Placement"][1]
    )


@pytest.mark.parametrize(
    ("host", "code"),
    [("host0", 2), ("HOST1.example.org", 2), ("host", 0), ("other", 0)],
)
def test_what_a_compute_has_reported_it_must_go_on_to_report(
    status, web, host, code
):
    text = COMPUTE.replace(
        "report_in_placement = true", "report_in_placement = false"
    ).replace("pci_in_placement = true", "pci_in_placement = false")
    text = f"[DEFAULT]\nhost = {host}\n{text}"
    done = status(
        conf(web["ours"], text),
        *("upgrade", "check", "--json"),
        before=("--role", "compute"),
    )
    found = checks(done)["Devices reported before"]
    assert found[0] == code
    if code:
        assert f"Placement has {GPUS} PCI devices of this host" in found[1]


def test_a_failure_is_exit_code_2_and_a_table_for_people(status, web):
    text = CONTROLLER.replace("GpuPciPassthroughFilter,", "")
    done = status(conf(web["ours"], text), "upgrade", "check", is_fresh=True)
    assert done.returncode == 2
    assert "| GPU Scheduling Check Results" in done.stdout
    assert "| Check: Scheduler filter" in done.stdout
    assert "| Result: Failure" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_placement_the_rest_is_checked(status):
    done = status(CONTROLLER, "upgrade", "check", "--json")
    assert done.returncode == 2
    found = checks(done)
    assert found["Placement API"][0] == 2
    assert found["Placement extension"] == (
        1,
        "Not checked: Placement does not answer, see above.",
    )
    assert found["Scheduler filter"] == (0, None)


def test_the_limits_are_read_from_a_placement_conf(status, web, tmp_path):
    path = tmp_path / "placement.conf"
    path.write_text(
        "[placement]\nallocation_conflict_retry_count = 1\n"
        "max_allocation_candidates = 1000\n"
        "allocation_candidates_generation_strategy = breadth-first\n"
        "[workarounds]\noptimize_for_wide_provider_trees = true\n"
    )
    done = status(
        conf(web["stock"], CONTROLLER),
        *("upgrade", "check", "--json"),
        before=("--placement-conf", path),
    )
    assert problems(done) == {"Placement extension", "Links of devices"}


def test_a_role_can_be_given(status, web):
    done = status(
        conf(web["ours"], COMPUTE),
        *("upgrade", "check", "--json"),
        before=("--role", "both"),
    )
    assert "Scheduler filter" in problems(done)


def test_a_value_that_cannot_be_read_is_a_failure_of_its_check(status, web):
    text = COMPUTE.replace(
        "report_in_placement = true", "report_in_placement = maybe"
    )
    done = status(
        conf(web["ours"], text),
        *("upgrade", "check", "--json"),
        before=("--role", "compute"),
    )
    assert done.returncode == 2
    assert "report_in_placement" in checks(done)["PCI devices in Placement"][1]


@pytest.mark.parametrize("command", [(), ("upgrade",), ("update", "check")])
def test_wrong_usage_is_told(status, command):
    done = status("", *command)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", [None, "no assignment\n"])
def test_a_file_that_cannot_be_read_is_no_result(status, tmp_path, text):
    path = tmp_path / "other.conf"
    if text is not None:
        path.write_text(text)
    done = status(
        "",
        *("upgrade", "check"),
        before=("--config-file", path),
        is_fresh=True,
    )
    assert done.returncode == 255
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert str(path) in line
