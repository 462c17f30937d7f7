# SPDX-License-Identifier: Apache-2.0

"""openstack gpu quota: usage of a real Placement, limits as of Keystone."""

import json

import pytest

from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.osc import worlds

H100 = "class:CUSTOM_GPU_H100"
L40S = "class:CUSTOM_GPU_L40S"
OTHER, IDLE = "0" * 32, "1" * 32
PROJECTS = {worlds.PROJECT: "lab", OTHER: "other", IDLE: "idle"}


@pytest.fixture
def quota(small_cloud):
    """Return a function that shows the quota with some limits."""

    def show(*arguments, defaults=(), limits=(), aliases=worlds.ALIASES[:2]):
        small_cloud.adapters.identity = adapters.Keystone(
            PROJECTS, defaults, limits
        )
        options = [part for a in aliases for part in ("--alias", a)]
        return small_cloud.run("gpu", "quota", *arguments, *options)

    return show


def test_output_is_as_it_was_reviewed(quota, golden):
    result = quota(
        defaults=[(H100, 4, None)],
        limits=[(worlds.PROJECT, H100, 10, None), (OTHER, H100, -1, None)],
    )
    assert result.code == 0
    golden("quota.txt", result.err + result.out)


def _rows(result):
    assert result.code == 0
    return [
        (r["Project"], r["Resource Class"], r["Limit"], r["Used"], r["Left"])
        for r in json.loads(result.out)
    ]


def test_usage_is_that_of_placement(quota):
    result = quota(
        *("-f", "json"), defaults=[(H100, 4, None), (L40S, 2, None)]
    )
    assert _rows(result) == [
        # More than its limit, as when a limit was lowered.
        ("lab", "CUSTOM_GPU_H100", "4", 7, 0),
        ("lab", "CUSTOM_GPU_L40S", "2", 1, 1),
    ]
    assert result.err == ""


@pytest.mark.parametrize("name", ["idle", IDLE])
def test_one_project_is_shown_even_if_it_has_nothing(quota, name):
    result = quota(
        *("--project", name, "-f", "json"),
        defaults=[(H100, 4, None)],
        aliases=worlds.ALIASES[:1],
    )
    assert _rows(result) == [("idle", "CUSTOM_GPU_H100", "4", 0, 4)]


@pytest.mark.parametrize(
    "arguments", [(), ("--project", worlds.PROJECT, "--project", OTHER)]
)
def test_projects_of_one_name_are_told_apart(quota, monkeypatch, arguments):
    """They are of several domains."""
    monkeypatch.setitem(PROJECTS, OTHER, "lab")
    result = quota(
        *(*arguments, "-f", "json"),
        defaults=[(H100, 4, None)],
        limits=[(OTHER, H100, 9, None)],
        aliases=worlds.ALIASES[:1],
    )
    assert [row[0] for row in _rows(result)] == [
        f"lab ({OTHER[:8]})",
        f"lab ({worlds.PROJECT[:8]})",
    ]


@pytest.mark.parametrize(
    ("region", "limit"), [("north", "5"), ("south", "1"), ("east", "9")]
)
def test_a_limit_of_the_region_goes_over_one_of_all(
    quota, small_cloud, monkeypatch, region, limit
):
    monkeypatch.setattr(small_cloud, "region", region)
    result = quota(
        *("-f", "json"),
        defaults=[(H100, 5, "north"), (H100, 9, None), (H100, 1, "south")],
        aliases=worlds.ALIASES[:1],
    )
    assert _rows(result)[0][2] == limit


def test_what_is_not_registered_is_told_with_the_command(quota):
    result = quota("-f", "json", aliases=worlds.ALIASES[:1])
    assert _rows(result) == [
        ("lab", "CUSTOM_GPU_H100", "not registered", 7, "")
    ]
    assert result.err == (
        "No limit is registered: openstack registered limit create --service"
        f" nova --default-limit 0 {H100}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "aliases", "line"),
    [
        (
            ("--project", "x"),
            worlds.ALIASES[:1],
            "no project 'x'; known: idle, lab, other",
        ),
        (
            (),
            (),
            "/etc/nova/nova.conf is not here: give --nova-conf <file> or"
            " --alias <json>",
        ),
    ],
)
def test_what_cannot_be_answered_is_one_line(quota, arguments, aliases, line):
    result = quota(*arguments, aliases=aliases)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"{line}\n"


class _AsMember(adapters.Keystone):
    """Keystone as a member of a project sees it."""

    def get(self, path, **kwargs):
        if path.startswith(("/services", "/projects")):
            return adapters.Response(403, {})
        return super().get(path, **kwargs)


class _Access:
    """What a token says."""

    project_id = worlds.PROJECT
    project_name = "lab"

    def has_service_catalog(self):
        return True

    class service_catalog:
        catalog = ({"type": "compute", "id": adapters.Keystone.SERVICE},)


@pytest.mark.parametrize("aliases", [(), worlds.ALIASES[:1]])
@pytest.mark.parametrize("arguments", [(), ("--project", "lab")])
def test_a_member_sees_its_own(small_cloud, aliases, arguments):
    """Also without nova.conf, which members do not have."""
    small_cloud.adapters.identity = _AsMember(
        PROJECTS, [(H100, 4, None)], [(worlds.PROJECT, H100, 6, None)]
    )
    options = [part for a in aliases for part in ("--alias", a)]
    member = shell.Shell(small_cloud.adapters, _Access)
    result = member.run("gpu", "quota", *arguments, *options, "-f", "json")
    assert (result.code, result.err) == (0, "")
    (row,) = json.loads(result.out)
    assert (row["Project"], row["Limit"], row["Used"]) == ("lab", "6 *", 7)
    assert (row["Left"], row["Over"]) == (0, "1 above limit")


def test_a_user_who_may_not_read_limits_is_told(small_cloud):
    class Closed:
        def get(self, path, **_kwargs):
            return adapters.Response(403, {})

    small_cloud.adapters.identity = Closed()
    result = small_cloud.run("gpu", "quota", "--alias", worlds.ALIASES[0])
    assert result.code == 1
    assert result.err.startswith("Keystone refuses GET /projects")
