# SPDX-License-Identifier: Apache-2.0

"""The wheel, in empty environments: what an extra brings, and that it does.

``make test-install`` runs this; the environment of tox has uv, which installs
a hundred packages in seconds.
"""

import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).parents[2]
CONSTRAINTS = REPO / "constraints/nova-34.txt"
SCENARIO = """
inventory:
  hosts:
    - {machine: bridge-pairs, model: H100NVL, count: 2}
workload:
  arrivals: 20
  load: [0.8]
  flavors:
    - {gpus: 2, share: 1, link: nvlink}
"""

BASE_PACKAGES = 25
"""How many packages ``nova-gpu-host`` may bring, itself included."""

HOST = ("nova-gpu-host", "--help")
NAMES = (
    "python",
    "-c",
    "from nova_gpu_filter.nova_rules import names;"
    "assert names.normalize_resource_class('gpu') == 'CUSTOM_GPU';"
    "assert names.normalize_traits('nvme') == frozenset(['CUSTOM_NVME'])",
)
"""What ``nova-gpu-host check --nova-conf`` does with names of Placement."""

COMMANDS = {
    "": [HOST, NAMES, ("nova-gpu-host", "vgpu", "unit")],
    "agent": [
        HOST,
        ("nova-gpu-agent", "--help"),
        ("nova-gpu-agent", "run", "--help"),
        ("nova-gpu-agent", "unit"),
    ],
    "scheduler": [
        HOST,
        ("nova-gpu-status", "--help"),
        (
            "python",
            "-c",
            "from nova_gpu_filter.scheduler import filters, weights;"
            "assert filters.all_filters() and weights.all_weighers();"
            "import nova_gpu_filter.scheduler.extra_spec_validators",
        ),
    ],
    "placement": [
        HOST,
        (
            "python",
            "-c",
            "from nova_gpu_filter.placement import extension;"
            "assert extension.wrap",
        ),
    ],
    "osc": [
        HOST,
        ("openstack", "gpu", "device", "list", "--help"),
        ("openstack", "gpu", "explain", "--help"),
    ],
    "exporter": [HOST, ("nova-gpu-exporter", "--help")],
    "simulate": [
        HOST,
        ("nova-gpu-simulate", "--help"),
        (
            *("nova-gpu-simulate", "--scheduler", "gpu", "-q"),
            *("--scenario", "{scenario}"),
        ),
    ],
}
"""What has to run by the extra that brings it; each ends with 0."""

ABSENT = {
    "": {"nova", "openstack-placement", "rich", "cliff", "openstacksdk"},
    "agent": {"nova", "openstack-placement", "rich", "cliff", "openstacksdk"},
    "scheduler": {"openstack-placement"},
    "placement": {"nova", "openstacksdk", "rich"},
    "osc": {"nova", "openstack-placement", "prometheus-client"},
    "exporter": {"nova", "openstack-placement", "rich", "cliff"},
    "simulate": {"openstack-placement"},
}
"""What an extra has no use for."""


def run(*arguments, **named):
    """Run a command; fail the test with its output where it fails."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **named,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel."""
    target = tmp_path_factory.mktemp("dist")
    run("uv", "build", "--quiet", "--wheel", "--out-dir", target, REPO)
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=COMMANDS, ids=lambda e: e or "base")
def environment(request, wheel, tmp_path_factory):
    """Install the wheel with one extra: (extra, directory)."""
    extra = request.param
    place = tmp_path_factory.mktemp(extra or "base")
    run("uv", "venv", "--quiet", "--python", sys.executable, place / "venv")
    run(
        *("uv", "pip", "install", "--quiet", "--constraint", CONSTRAINTS),
        *("--python", place / "venv/bin/python"),
        f"nova-gpu-filter[{extra}] @ file://{wheel}"
        if extra
        else f"nova-gpu-filter @ file://{wheel}",
    )
    (place / "scenario.yaml").write_text(SCENARIO)
    return extra, place


def test_the_commands_of_an_extra_run(environment):
    extra, place = environment
    for name, *arguments in COMMANDS[extra]:
        run(
            place / "venv/bin" / name,
            *(
                argument.format(scenario=place / "scenario.yaml")
                for argument in arguments
            ),
            cwd=place,
            env={"PATH": "/usr/bin:/bin", "HOME": str(place)},
        )


def test_an_extra_brings_nothing_that_it_has_no_use_for(environment):
    extra, place = environment
    installed = {
        line.partition("==")[0].lower()
        for line in run(
            *("uv", "pip", "freeze", "--python", place / "venv/bin/python")
        ).splitlines()
    }
    assert not installed & ABSENT[extra]
    if not extra:
        assert len(installed) < BASE_PACKAGES
    print(extra or "base", len(installed), "packages")


def test_a_command_that_lacks_its_extra_names_it(environment):
    extra, place = environment
    if extra:
        return
    for name, wanted in (
        ("nova-gpu-status", "scheduler"),
        ("nova-gpu-exporter", "exporter"),
        ("nova-gpu-simulate", "simulate"),
    ):
        done = subprocess.run(
            [place / "venv/bin" / name, "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert f"pip install 'nova-gpu-filter[{wanted}]'" in done.stdout
        assert "Traceback" not in done.stdout
