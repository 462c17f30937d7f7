# SPDX-License-Identifier: Apache-2.0

"""Machines of captures: what is said of them is what was reviewed."""

import tarfile

import pytest

from nova_gpu_filter.cmd.host import app
from tests.unit.host import add_case

CASES = sorted(add_case.CASES.iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_machine_is_told_as_it_was_reviewed(case, tmp_path):
    root = tmp_path / "host"
    add_case.build(case, root)
    found = add_case.ask(case, root)
    assert found == {
        name: (case / name).read_text() for name in add_case.OUTPUTS
    }


@pytest.fixture
def capture(build, tmp_path):
    """Capture a K2 host."""
    host = build("k2_host")
    path = tmp_path / "k2.tar.gz"
    assert (
        app.main(["capture", "--sysfs-root", str(host.root), str(path)]) == 0
    )
    return path


def test_a_capture_becomes_a_case_in_one_step(capture, tmp_path):
    conf = tmp_path / "nova.conf"
    conf.write_text('[pci]\ndevice_spec = {"vendor_id": "10de"}\n')
    case = add_case.add(capture, "k2", conf, tmp_path / "cases")
    check, config = ((case / name).read_text() for name in add_case.OUTPUTS)
    assert check.startswith("exit code ")
    assert "0000:85:00.0" in check
    assert str(tmp_path) not in check + config
    assert config.count("device_spec = ") == 2
    root = tmp_path / "again"
    add_case.build(case, root)
    assert add_case.ask(case, root) == {
        "check.txt": check,
        "config.txt": config,
    }


def test_a_case_that_changes_is_noticed(capture, tmp_path):
    case = add_case.add(capture, "k2", cases=tmp_path / "cases")
    root = tmp_path / "again"
    add_case.build(case, root)
    (root / "proc/cmdline").write_text("intel_iommu=on\n")
    assert add_case.ask(case, root)["check.txt"] != (
        (case / "check.txt").read_text()
    )


@pytest.mark.parametrize("name", ["K2", "", "../k2", "k2/a", "-k"])
def test_a_name_is_plain(capture, tmp_path, name):
    with pytest.raises(add_case.CaseError, match="use lower-case"):
        add_case.add(capture, name, cases=tmp_path / "cases")


def test_what_is_there_is_not_replaced(capture, tmp_path):
    add_case.add(capture, "k2", cases=tmp_path / "cases")
    with pytest.raises(add_case.CaseError, match="there already"):
        add_case.add(capture, "k2", cases=tmp_path / "cases")


def test_what_is_no_capture_is_refused(tmp_path):
    other = tmp_path / "other"
    for make in (
        lambda: other.write_bytes(b"text"),
        lambda: tarfile.open(other, "w").close(),
    ):
        make()
        with pytest.raises(add_case.CaseError):
            add_case.add(other, "k2", cases=tmp_path / "cases")
    assert not (tmp_path / "cases").exists()
