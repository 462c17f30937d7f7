# SPDX-License-Identifier: Apache-2.0

"""nova-gpu-host vgpu, as an operator runs it."""

import configparser
import json
import os
import pathlib
import shlex

import pytest

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import vgpu
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host.checks import declared_vfs
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.host.vgpu import applying
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import state
from tests.fake_sriov import A40
from tests.fake_sriov import NIC
from tests.fake_sriov import FakeHost

_ONE = """\
physical_functions:
  - address: 0000:41:00.0
    vfs: 4
    type: NVIDIA A40-8Q
"""


@pytest.fixture
def fake(tmp_path):
    return FakeHost(tmp_path)


@pytest.fixture
def run(capsys, fake):
    def run_command(*arguments):
        code = app.main(
            ["--sysfs-root", str(fake.host.root), "vgpu", *arguments]
        )
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_the_plan_has_each_command(run, fake):
    fake.host.write(declaration.PATH, _ONE)
    code, output, errors = run("plan", "-f", "json")
    assert (code, errors) == (1, "")
    assert json.loads(output) == [
        {
            "Device": A40,
            "Declared": "4 VFs of type NVIDIA A40-8Q",
            "Status": status,
            "Step": step,
            "Reason": "",
        }
        for status, step in (
            ("to do", f"{state.SRIOV_MANAGE} -e {A40}"),
            ("afterwards", "make 4 VFs of type NVIDIA A40-8Q"),
        )
    ]


def test_what_is_refused_has_a_reason_and_a_code(run, fake, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text(f"physical_functions: [{{address: '{NIC}', vfs: 99}}]")
    code, output, _ = run("plan", "--file", str(file), "-f", "value")
    assert code == 2
    assert "the device can have 8 VFs" in output


def test_show_lists_what_there_is(run, fake):
    fake.run((state.SRIOV_MANAGE, "-e", A40))
    vf = fake.vfs(A40)[0]
    fake.write(f"{address_lib.DEVICES}/{vf}/nvidia/current_vgpu_type", "563")
    fake.hold(vf)
    code, output, _ = run("show", "-f", "json")
    assert code == 0
    found = {row["Device"]: row for row in json.loads(output)}
    assert found[A40]["VFs"] == 32
    assert found[A40]["Types"] == ["31 without a type", "1 of NVIDIA A40-8Q"]
    assert found[A40]["Creatable"] == ["NVIDIA A40-8Q"]
    assert found[A40]["In Use"] == [
        f"{vf}: qemu-system-x86 (4711) has 105 of it open"
    ]
    assert found[NIC]["Types"] == []


def test_another_host_is_not_changed(run):
    code, output, errors = run("apply")
    assert (code, output) == (3, "")
    assert "apply changes the machine that it runs on" in errors


def test_a_file_that_is_not_there_is_told(run):
    code, _, errors = run("plan")
    assert code == 3
    assert declaration.PATH in errors
    assert errors.count("\n") == 1


@pytest.fixture
def live(fake, monkeypatch, tmp_path):
    """All of the command but for the root directory and the changes."""

    class Live(tree.Tree):
        is_live = True

    monkeypatch.setattr(
        base, "open_tree", lambda *_: Live(str(fake.host.root))
    )
    monkeypatch.setattr(applying, "Machine", lambda: fake)
    monkeypatch.setattr(vgpu, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # The driver of the fake is never still at work.
    monkeypatch.setattr(applying, "_WAIT_SECONDS", 0.0)


def test_without_nvidia_smi_other_devices_are_set_up(
    capsys, fake, live, monkeypatch
):
    monkeypatch.setenv("PATH", str(fake.host.root))
    fake.host.write(
        declaration.PATH,
        f"{_ONE}    mig: false\n  - address: {NIC}\n    vfs: 2\n",
    )
    assert app.main(["vgpu", "apply", "-f", "json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert {row["Device"]: row["Status"] for row in rows} == {
        NIC: "done",
        A40: "refused",
    }
    assert "nvidia-smi is not installed" in rows[-1]["Reason"]
    assert len(fake.vfs(NIC)) == 2


def test_apply_does_what_was_planned(capsys, fake, live, monkeypatch):
    fake.host.write(declaration.PATH, _ONE)
    assert app.main(["vgpu", "apply", "-f", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["Status"] for row in rows] == ["done"] * 5
    assert fake.given(A40)[:5] == [563] * 4 + [0]
    assert app.main(["vgpu", "plan", "-f", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["Status"] == "as declared"
    fake.host.write(declaration.PATH, _ONE.replace("vfs: 4", "vfs: 7"))
    assert app.main(["vgpu", "apply", "-f", "json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["Status"] == "refused"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert app.main(["vgpu", "apply"]) == 3
    assert "run it as root" in capsys.readouterr().err


def test_the_cure_of_check_makes_what_is_declared(capsys, fake, live):
    fake.host.write(declaration.PATH, _ONE)

    def find():
        files = tree.Tree(str(fake.host.root))
        host = reader.read(files)
        context = Context(files, host)
        [found] = declared_vfs.check(context)
        return found

    found = find()
    assert found.severity is Severity.WARNING
    [cure] = found.cures
    program, *words = shlex.split(cure)
    assert program == "nova-gpu-host"
    assert app.main(words) == 0
    assert find().severity is Severity.OK


def test_the_unit_applies_the_file_before_nova_compute(capsys):
    assert app.main(["vgpu", "unit"]) == 0
    unit = configparser.ConfigParser(strict=False)
    unit.read_string(capsys.readouterr().out)
    assert unit["Unit"]["ConditionPathExists"] == declaration.PATH
    assert "nova-compute.service" in unit["Unit"]["Before"].split()
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert pathlib.Path(program).name == "nova-gpu-host"
    assert os.access(program, os.X_OK)
    assert arguments[:2] == ["vgpu", "apply"]
    parser = app.list_commands()["vgpu"].load()(None).get_parser("x")
    assert parser.parse_args(arguments[1:]).action == "apply"
