# SPDX-License-Identifier: Apache-2.0

"""What the documentation shows is what the tools give."""

import importlib.util
import pathlib
import re

import pytest

from nova_gpu_filter.cmd.host import app
from tests import sysfs_trees
from tests import tutorial

ROOT = pathlib.Path(__file__).parents[2]


def _draw_pictures():
    path = ROOT / "tools" / "draw_pictures.py"
    spec = importlib.util.spec_from_file_location("draw_pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _draw_pictures()


@pytest.mark.parametrize(("name", "text"), list(TOOL.pictures()))
def test_pictures_are_as_the_tools_draw_them(name, text):
    drawn = (TOOL.FOLDER / name).read_text()
    assert drawn == text, "run: python tools/draw_pictures.py"


def test_the_commands_of_the_tutorial_run_on_a_compute_node(
    tmp_path, monkeypatch, capsys
):
    host = sysfs_trees.hgx_h100(tmp_path / "host")
    monkeypatch.chdir(tmp_path)
    commands = tutorial.commands("nova-gpu-host")
    assert len(commands) >= 8
    for words in commands:
        arguments, output = words[1:], None
        if ">" in arguments:
            *arguments, _, output = arguments
        code = app.main(["--sysfs-root", str(host.root), *arguments])
        said = capsys.readouterr()
        # 1: check found what does not keep a server from starting.
        assert code in ((0, 1) if arguments == ["check"] else (0,)), said.err
        if output:
            pathlib.Path(output).write_text(said.out)
    assert (tmp_path / "gpu.conf").read_text().count("\ndevice_spec = ") == 8
    assert '"name": "h100"' in said.out


def test_every_command_of_the_tutorial_is_run_by_a_test():
    # The others: tests/cloud/test_tutorial.py.
    tested = tutorial.commands("nova-gpu-host", "nova-gpu-status", "openstack")
    assert len(tested) == tutorial.PATH.read_text().count("   $ ")


def _rows(text, title):
    """Read a list-table of which one column has a title: rows of cells."""
    table = re.split(r"\n.. list-table::\n", text)
    (found,) = [one for one in table if f"     - {title}\n" in one]
    rows = []
    for line in found.splitlines():
        start, _, rest = line.partition("- ")
        if start in ("   * ", "     "):
            if start == "   * ":
                rows.append([])
            rows[-1].append(rest)
        elif line.startswith("       "):
            rows[-1][-1] += f" {line.strip()}"
        elif rows and line:
            break
    return rows


def test_the_tests_behind_the_ways_are_there():
    text = (ROOT / "doc/source/admin/ways.rst").read_text()
    named = re.findall("tests/[a-z_/]+[.]py", text)
    assert [path for path in named if not (ROOT / path).is_file()] == []
    head, *rows = _rows(text, "Tested by")
    assert head == [
        *("Way", "Set up by", "Scheduled by", "Shown by", "Tested by")
    ]
    assert {row[0] for row in rows} >= {
        row[0] for row in _rows(text, "Nova knows it by")[1:]
    }
    for row in rows:
        assert len(row) == len(head), row
        is_tested = "tests/" in row[-1]
        assert is_tested is (row[2] != "not at all"), row
