# SPDX-License-Identifier: Apache-2.0

"""What cannot work is refused before anything is installed."""

import subprocess
import sys

import pytest

from tests.unit.devstack import sandbox


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FLAVORS", "h100:1, h100:2", "h100:1, is neither a number nor"),
        ("FLAVORS", "h100", "h100 is neither a number nor"),
        ("FLAVORS", "h100:0", "h100:0 is neither a number nor"),
        ("FLAVORS", "h100:1,,cx7:1", "h100:1,,cx7:1 is neither a number nor"),
        ("FLAVOR_RAM", "lots", "must be a number, not lots"),
        ("FLAVOR_DISK", "-1", "must be a number, not -1"),
        ("TOPOLOGY_WEIGHT", "-", "must be a number, not -"),
        ("TOPOLOGY_WEIGHT", ".", "must be a number, not ."),
        ("INVENTORIES", "/nowhere/a.json", "/nowhere/a.json cannot be read"),
        ("PCI_ALIAS", "automatic", "give a JSON list, or auto"),
    ],
)
def test_a_setting_that_cannot_work_stops_the_first_phase(
    machine, name, value, message
):
    machine.set(**{f"NOVA_GPU_{name}": value})
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert not [call for call in machine.calls if "pip" in call]


def test_a_flavor_of_an_alias_that_is_not_there_is_refused(machine):
    machine.ask_nova()
    machine.set(NOVA_GPU_FLAVORS="h100:1 h200:1")
    done = machine.run("stack", check=False)
    assert done.returncode != 0
    assert "there is no PCI alias h200, only: cx7 h100" in done.stdout


def _check_versions(tmp_path, *requirements):
    setup = tmp_path / "setup.cfg"
    lines = "".join(f"    {each}\n" for each in requirements)
    setup.write_text(f"[extras]\nscheduler =\n{lines}")
    return subprocess.run(
        [
            *(sys.executable, "-W", "ignore"),
            str(sandbox.PLUGIN / "tools" / "nova_gpu_conf.py"),
            *("versions", str(setup), "scheduler"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "requirement", ["nova>=1000 # Apache-2.0", "openstack-placement<1"]
)
def test_what_pip_would_replace_is_named(tmp_path, requirement):
    done = _check_versions(tmp_path, "oslo.log<1", requirement)
    assert done.returncode == 1
    assert requirement.partition(" ")[0] in done.stderr
    assert "shallow clone" in done.stderr


def test_what_is_stacked_and_fits_is_left_alone(tmp_path):
    assert _check_versions(tmp_path, "nova>=31.0.0,<35").returncode == 0
