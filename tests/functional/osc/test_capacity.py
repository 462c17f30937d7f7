# SPDX-License-Identifier: Apache-2.0

"""openstack gpu capacity, on a real Placement."""

import json

import pytest

from tests.functional.osc import worlds

H100 = ("--alias", worlds.ALIASES[0])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("capacity.txt", []),
        (
            "capacity-by-host.txt",
            ["--by-host", "--flavor", "h100.4", "--flavor", "small"],
        ),
    ],
)
def test_output_is_as_it_was_reviewed(small_cloud, golden, name, arguments):
    result = small_cloud.run(
        "gpu", "capacity", *arguments, *worlds.alias_options()
    )
    assert (result.code, result.err) == (0, "")
    golden(name, result.out)


def test_aliases_are_read_from_a_nova_conf(small_cloud, tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text(
        "[pci]\n" + "".join(f"alias = {alias}\n" for alias in worlds.ALIASES)
    )
    arguments = ("gpu", "capacity", "-f", "json")
    result = small_cloud.run(*arguments, "--nova-conf", str(path))
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == json.loads(
        small_cloud.run(*arguments, *worlds.alias_options()).out
    )


def test_flavors_of_unknown_aliases_are_left_out_with_a_warning(small_cloud):
    result = small_cloud.run("gpu", "capacity", *H100, "-f", "json")
    assert result.code == 0
    names = {row["Flavor"] for row in json.loads(result.out)}
    assert names == worlds.EXTRA_SPECS.keys() - {"l40s.1", "small"}
    assert result.err.startswith(
        "Left out: flavor l40s.1 asks for alias l40s, which is not in"
        " --alias: give --nova-conf"
    )
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--flavor", "l40s.1", *H100),
            "flavor l40s.1 asks for alias l40s, which is not in --alias:",
        ),
        (("--flavor", "x", *H100), "no flavor 'x'; known: h100.1"),
        (("--nova-conf", "/nowhere"), "/nowhere: No such file or directory"),
        (("--alias", "{"), "--alias: alias {: not JSON: Expecting property"),
        (
            ("--alias", '{"name": "x", "resource_class": "X"}'),
            "flavor h100.1 asks for alias h100, which is not in --alias:",
        ),
    ],
)
def test_what_cannot_be_answered_is_one_line(small_cloud, arguments, line):
    result = small_cloud.run("gpu", "capacity", *arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(line)
    assert result.err.count("\n") == 1
