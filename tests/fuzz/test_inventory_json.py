# SPDX-License-Identifier: Apache-2.0

"""Inventories: what an operator collects from compute nodes."""

import copy
import functools
import json
import pathlib
import tempfile

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from tests import smi_files
from tests import sysfs_trees
from tests.fuzz import hostile
from tests.unit.host import test_linking

COMMANDS = (
    ("config",),
    ("config", "--whole-cards", "--nics", "--nvswitches"),
    ("config", "--role", "controller", "--report-in-placement"),
)


@functools.cache
def inventory():
    """An HGX host with NVLinks and partitions, as JSON."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        host = sysfs_trees.hgx_h100(root / "host")
        for name, text in (
            ("topo", test_linking.NV18),
            ("q", test_linking.QUERY[1]),
            ("fmpm", smi_files.fmpm(smi_files.HGX_H100)),
        ):
            (root / name).write_text(text)
        code, output, _ = hostile.run(
            *("--sysfs-root", host.root, "inventory", "-f", "json"),
            *("--nvidia-smi-topo", root / "topo", "--fabric", root / "fmpm"),
            *("--nvidia-smi-q", root / "q"),
        )
    assert code == 0
    return json.loads(output)


def places(data, place=()):
    """Yield the place of everything in a document."""
    if place:
        yield place
    inner = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in inner:
        yield from places(value, (*place, key))


def fields():
    """One place for each field, whatever device it is of."""
    found = {}
    for place in places(inventory()):
        found.setdefault(
            tuple(key for key in place if isinstance(key, str))
            if "relations" not in place
            else ("relations",),
            place,
        )
    return list(found.values())


def change(document, place, value):
    """Put a value at a place; a parent may have gone."""
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


def remove(document, place):
    """Remove what is at a place, which is there."""
    for key in place[:-1]:
        document = document[key]
    del document[place[-1]]


def check(document, directory, command):
    path = pathlib.Path(directory) / "inventory.json"
    path.write_text(json.dumps(document))
    result = hostile.run(*command, path)
    hostile.check_run(result)
    hostile.check_nova_conf(result[1])
    return result


@pytest.mark.parametrize("place", fields(), ids=lambda p: str(p[-1]))
def test_no_field_makes_a_line_of_its_own(place, tmp_path):
    document = copy.deepcopy(inventory())
    change(document, place, hostile.NEW_LINE)
    for command in COMMANDS:
        code, _, errors = check(document, tmp_path, command)
        if code:
            assert "inventory.json: " in errors


@given(
    st.lists(
        st.tuples(st.sampled_from(list(places(inventory()))), hostile.values),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(COMMANDS),
)
def test_any_damage_is_one_line_that_names_the_file(changes, command):
    document = copy.deepcopy(inventory())
    for place, value in changes:
        try:
            change(document, place, value)
        except (KeyError, IndexError, TypeError):
            continue
    with tempfile.TemporaryDirectory() as directory:
        check(document, directory, command)


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00", b"1" * 5000, b""],
    ids=["lists", "objects", "no utf-8", "long number", "empty"],
)
def test_what_is_no_inventory_is_refused(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(text)
    for option in (("config",), ("inventory", "--fabric")):
        root = sysfs_trees.k2_host(tmp_path / option[0]).root
        result = hostile.run("--sysfs-root", root, *option, path)
        hostile.check_run(result)
        assert result[0] == 3
        assert f"{path}: " in result[2]


def test_as_many_nodes_as_no_host_has_are_not_read(tmp_path):
    host = sysfs_trees.k2_host(tmp_path)
    host.write("/sys/devices/system/node/online", "0-99999")
    read = reader.read(tree.Tree(str(host.root)))
    assert read.numa_nodes == ()
    (problem,) = read.problems
    assert problem.startswith("/sys/devices/system/node/online: 99999 is")
