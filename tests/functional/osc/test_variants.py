# SPDX-License-Identifier: Apache-2.0

"""What operators type and meet beside the examples: every format, odd names,
several obstacles of one host, every way to ask for resources."""

import copy
import csv
import io
import json
import types

import pytest
import yaml

from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.osc import worlds

H100 = "CUSTOM_GPU_H100"
COMMANDS = {
    "gpu device list --long": (),
    "gpu device show hgx-1_0000:1b:00.0": (),
    "gpu host list": (),
    "gpu host show hgx-1": (),
    "gpu capacity": worlds.alias_options(),
    "gpu explain --flavor h100.8": worlds.alias_options(),
    "gpu flavor check h100.8": worlds.alias_options(),
    "gpu quota": worlds.alias_options(),
    "gpu drift": worlds.alias_options(),
}


@pytest.fixture
def cloud(small_cloud):
    """Return a copy of the small cloud that a test may change: (shell, Nova,
    function that runs a command)."""
    nova = copy.deepcopy(small_cloud.adapters.compute)
    openstack = shell.Shell(
        types.SimpleNamespace(
            placement=small_cloud.adapters.placement,
            compute=nova,
            identity=adapters.Keystone({worlds.PROJECT: "lab"}),
        )
    )

    def run(*arguments):
        result = openstack.run("gpu", *arguments)
        assert result.code == 0, result.err
        return result

    return types.SimpleNamespace(openstack=openstack, nova=nova, run=run)


@pytest.mark.parametrize("name", ["resource_class", "RESOURCE CLASS"])
@pytest.mark.parametrize("option", ["-c", "--sort-column"])
def test_a_column_may_be_written_in_any_way(cloud, option, name):
    """Also one that is shown only if it is named."""
    rows = _rows(cloud.run("device", "list", option, name, "-f", "json"))
    assert "Resource Class" in rows[0]


def test_a_column_that_is_not_there_ends_with_all_that_are(cloud):
    result = cloud.openstack.run("gpu", "device", "list", "-c", "owner")
    assert (result.code, result.out) == (1, "")
    assert "'Server', 'Project', 'Resource Class'" in result.err


def _flavor(cloud, **specs):
    made = dict(cloud.nova.flavors[0], id="new", name="new")
    made["extra_specs"] = {k.replace("__", ":"): v for k, v in specs.items()}
    cloud.nova.flavors.append(made)


def _rows(result):
    return json.loads(result.out)


@pytest.mark.parametrize("form", ["json", "yaml", "csv", "value", "table"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_every_form(cloud, command, form):
    if form == "csv" and " show" in command:
        form = "shell"
    arguments = (*command.split()[1:], *COMMANDS[command])
    result = cloud.run(*arguments, "-f", form)
    told = _rows(cloud.run(*arguments, "-f", "json"))
    if form in ("json", "yaml"):
        assert yaml.safe_load(result.out) == told
    if form == "csv":
        read = list(csv.DictReader(io.StringIO(result.out)))
        assert len(read) == len(told)
        assert all(set(row) == set(told[0]) for row in read)


@pytest.mark.parametrize("command", [*COMMANDS, "gpu topology show hgx-1"])
def test_every_command_explains_itself(cloud, command):
    result = cloud.run(*command.split()[1:], "--help")
    assert result.out.startswith("usage: ")
    assert ":class:" not in result.out
    assert "``" not in result.out


@pytest.mark.parametrize(
    "command",
    [
        *("device list --server", "device list --host", "device list --model"),
        *("device show", "host show", "host list --model", "topology show"),
        *("explain --server", "explain --flavor", "flavor check"),
        *("capacity --flavor", "quota --project"),
        *("explain --flavor small --host", "explain --flavor small --image"),
        *("explain --flavor small --availability-zone",),
    ],
)
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_name(cloud, command, name):
    """Of an empty one, services list all."""
    result = cloud.openstack.run("gpu", *command.split(), name)
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(
    "name", ["gpu_h100", "GPU H100", "gpu-h100", H100, H100.lower()]
)
@pytest.mark.parametrize("command", ["host list", "device list"])
def test_a_model_may_be_written_in_any_way(cloud, command, name):
    rows = _rows(cloud.run(*command.split(), "--model", name, "-f", "json"))
    assert {row["Host"] for row in rows} == {"hgx-1", "hgx-2"}


@pytest.mark.parametrize("name", ["detail", "学习-1", "a/b", "a b"])
def test_a_server_may_have_any_name(cloud, name):
    server = dict(cloud.nova.servers[0], name=name)
    cloud.nova.servers[0] = server
    rows = _rows(cloud.run("device", "list", "--server", name, "-f", "json"))
    assert {row["Server"] for row in rows} == {name}
    assert len(rows) == 2


def test_a_name_of_several_servers_names_their_uuids(cloud):
    """And these may be given in its place."""
    twin = dict(cloud.nova.servers[1], name="train-1")
    cloud.nova.servers[1] = twin
    uuids = [server["id"] for server in cloud.nova.servers[:2]]
    for command in ("device list", "explain"):
        result = cloud.openstack.run(
            *("gpu", *command.split(), "--server", "train-1"),
        )
        assert result.code == 1
        assert result.err == (
            "there are 2 servers 'train-1': give a UUID,"
            f" {' or '.join(sorted(uuids))}\n"
        )
    rows = _rows(
        cloud.run("device", "list", "--server", uuids[1], "-f", "json")
    )
    assert {row["Server"] for row in rows} == {f"train-1 ({uuids[1][:8]})"}


def test_all_obstacles_of_a_host_are_told_and_nothing_counts(cloud):
    (service,) = [s for s in cloud.nova.services if s["host"] == "hgx-2"]
    service |= {"status": "disabled", "state": "down", "forced_down": True}
    service["disabled_reason"] = "Wartung für Lüfter"
    status = "disabled, forced down"
    rows = _rows(cloud.run("host", "list", "-f", "json"))
    (row,) = [row for row in rows if row["Host"] == "hgx-2"]
    assert (row["Status"], row["Free"], row["Unavailable"]) == (status, 0, 4)
    shown = _rows(cloud.run("host", "show", "hgx-2", "-f", "json"))
    assert (shown["status"], shown["disabled_reason"]) == (
        status,
        "Wartung für Lüfter",
    )
    assert {
        name: number
        for name, number in shown.items()
        if name.endswith("_free") and number
    } == {}
    drawn = cloud.run("topology", "show", "hgx-2").out
    assert drawn.startswith(f"hgx-2: 8 devices, 0 free, {status}\n")
    rows = _rows(
        cloud.run(
            *("explain", "--flavor", "h100.4", "--host", "hgx-2"),
            *("-f", "json", *worlds.alias_options()),
        )
    )
    assert rows[0]["Reason"] == [
        "nova-compute is disabled",
        "nova-compute is forced down",
    ]
    assert rows[0]["Would Fit"] == [
        "with nova-compute enabled and with nova-compute no longer forced down"
    ]


@pytest.mark.parametrize(
    ("specs", "servers", "is_warned"),
    [
        ({f"resources__{H100}": "1"}, 9, True),
        ({f"resources1__{H100}": "1"}, 9, True),
        ({f"resources_GPU__{H100}": "1"}, 9, True),
        ({f"resources_A__{H100}": "1", f"resources_B__{H100}": "1"}, 4, True),
        ({f"resources_GPU__{H100}": "2"}, 0, True),
        (
            {f"resources1__{H100}": "1", "trait1__CUSTOM_FAST": "required"},
            0,
            True,
        ),
        (
            {
                f"resources1__{H100}": "1",
                "trait1__CUSTOM_GPU_LINK_NODE_1": "forbidden",
            },
            2,
            True,
        ),
        ({f"resources__{H100}": "0"}, 80, False),
        ({f"resources1__{H100}": "0"}, 80, False),
        (
            {"pci_passthrough__alias": "h100:1", f"resources1__{H100}": "1"},
            4,
            False,  # an error says it
        ),
    ],
    ids=str,
)
def test_resources_are_counted_in_whichever_group(
    cloud, specs, servers, is_warned
):
    _flavor(cloud, **specs)
    options = ("-f", "json", *worlds.alias_options())
    (row,) = _rows(cloud.run("capacity", "--flavor", "new", *options))
    assert row["Servers"] == servers
    checked = cloud.openstack.run("gpu", "flavor", "check", "new", *options)
    warned = [
        found["Key"]
        for found in _rows(checked)
        if found["Severity"] == "warning"
    ]
    assert bool(warned) is is_warned
    assert ("resources" in checked.out) is any(
        v != "0" for v in specs.values()
    )
    explained = cloud.run("explain", "--flavor", "new", *options)
    assert sum(row["Servers"] for row in _rows(explained)) == servers
    assert ("would get no device" in explained.err) is is_warned


def test_a_group_that_no_provider_has_is_a_cause(cloud):
    _flavor(
        cloud,
        **{f"resources1__{H100}": "1", "trait1__CUSTOM_FAST": "required"},
    )
    options = ("-f", "json", *worlds.alias_options())
    rows = _rows(cloud.run("explain", "--flavor", "new", *options))
    assert {tuple(row["Reason"]) for row in rows} == {
        (
            f"can never fit: too little {H100} with CUSTOM_FAST: new asks for"
            " 1 of one provider (resources1); 0 there",
        )
    }


@pytest.mark.parametrize("value", ["x", "-1", "1.5", ""])
def test_an_amount_that_is_no_number_is_one_line(cloud, value):
    _flavor(cloud, **{f"resources_GPU__{H100}": value})
    options = worlds.alias_options()
    for command in ("explain --flavor", "capacity --flavor"):
        result = cloud.openstack.run("gpu", *command.split(), "new", *options)
        assert (result.code, result.out) == (1, "")
        assert result.err == (
            f"flavor new: resources_GPU:{H100} = {value!r} is no number\n"
        )
    assert (
        cloud.openstack.run("gpu", "flavor", "check", "new", *options).code
        == 1
    )


UNIFIED = "[quota]\ndriver = nova.quota.UnifiedLimitsDriver\n"
LIMIT = f"class:{H100}"


@pytest.mark.parametrize(
    ("conf", "defaults", "limits", "reason"),
    [
        (UNIFIED, [(LIMIT, 9, None)], [], None),
        (UNIFIED, [(LIMIT, 8, None)], [], "2 asked, 7 of 8 used"),
        (UNIFIED, [(LIMIT, 0, None)], [], "2 asked, 7 of 0 used"),
        (UNIFIED, [(LIMIT, -1, None)], [], None),
        (UNIFIED, [(LIMIT, 0, None)], [(LIMIT, 9, None)], None),
        (UNIFIED, [(LIMIT, 9, None)], [(LIMIT, 8, None)],
         "2 asked, 7 of 8 used"),
        (UNIFIED, [(LIMIT, 0, "north"), (LIMIT, 99, None)], [], None),
        (
            UNIFIED + "unified_limits_resource_strategy = ignore\n"
            "unified_limits_resource_list = servers,class:VCPU,"
            "class:MEMORY_MB,class:DISK_GB\n",
            [],
            [],
            "2 asked, and no limit is registered, which counts as 0",
        ),
        # Keystone's limits are not enforced by Nova's own driver.
        ("[quota]\n", [(LIMIT, 0, None)], [], None),
    ],
)  # fmt: skip
def test_limits_of_keystone_keep_servers_out(
    cloud, tmp_path, conf, defaults, limits, reason
):
    """Of a resource class, as far as nova.conf has them enforced."""
    path = tmp_path / "nova.conf"
    path.write_text(
        "[pci]\n"
        + "".join(f"alias = {alias}\n" for alias in worlds.ALIASES)
        + conf
    )
    defaults = [("servers", 99, None), *defaults]
    cloud.openstack.adapters.identity = adapters.Keystone(
        {worlds.PROJECT: "lab"},
        defaults,
        [(worlds.PROJECT, *limit) for limit in limits],
    )
    cloud.openstack.region = "south"
    rows = _rows(
        cloud.run(
            *("explain", "--flavor", "h100.2", "--host", "hgx-2"),
            *("--project", "lab", "--nova-conf", str(path), "-f", "json"),
        )
    )
    expected = f"quota of project lab: {LIMIT}: {reason}"
    assert rows[0]["Reason"] == ([expected] if reason else [])
    assert rows[0]["Servers"] == (0 if reason else 2)


def _explain_move(cloud, *arguments, alias=worlds.ALIASES[0]):
    return cloud.openstack.run(
        *("gpu", "explain", *arguments, "-f", "json", "--alias", alias)
    )


@pytest.mark.parametrize(
    ("way", "alias", "reasons"),
    [
        ("cold", worlds.ALIASES[0], []),
        (
            "live",
            worlds.ALIASES[0],
            ["alias h100 does not ask for devices that are live_migratable"],
        ),
        (
            "live",
            '{"name": "h100", "resource_class": "CUSTOM_GPU_H100",'
            ' "live_migratable": "yes"}',
            [],
        ),
    ],
)
def test_before_a_server_moves_it_is_known_whether_it_can(
    cloud, way, alias, reasons
):
    result = _explain_move(
        cloud, "--server", "train-1", "--migrate", way, alias=alias
    )
    assert result.code == 0, result.err
    rows = {row["Host"]: row for row in _rows(result)}
    assert "hgx-1" not in rows  # where it is
    assert rows["hgx-2"]["Reason"] == reasons
    assert rows["hgx-2"]["Servers"] == (0 if reasons else 2)
    assert rows["hgx-2"]["Would Fit"] == (
        ["with a cold migration"] if reasons else []
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--flavor", "h100.1"), "--migrate needs --server"),
        (
            ("--server", "train-1", "--host", "hgx-1"),
            "train-1 is on hgx-1: name another host, or none",
        ),
    ],
)
def test_what_cannot_move_is_one_line(cloud, arguments, line):
    result = _explain_move(cloud, *arguments, "--migrate", "cold")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1] == line


class _Glance:
    def get(self, path, **_kwargs):
        return adapters.Response(200, {"id": "1", "hw_video_model": "virtio"})


@pytest.mark.parametrize("is_asked", [False, True])
def test_graphics_of_an_image_count_where_the_scheduler_asks_for_them(
    cloud, tmp_path, is_asked
):
    cloud.openstack.adapters.image = _Glance()
    path = tmp_path / "nova.conf"
    path.write_text(
        f"[pci]\nalias = {worlds.ALIASES[0]}\n"
        f"[scheduler]\nimage_metadata_prefilter = {is_asked}\n"
    )
    rows = _rows(
        cloud.run(
            *("explain", "--flavor", "h100.1", "--image", "x", "-f", "json"),
            *("--host", "hgx-2", "--nova-conf", str(path)),
        )
    )
    assert rows[0]["Reason"] == (
        ["trait COMPUTE_GRAPHICS_MODEL_VIRTIO is required"] if is_asked else []
    )
