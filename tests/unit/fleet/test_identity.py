# SPDX-License-Identifier: Apache-2.0

"""Projects and unified limits, from answers in the form of Keystone's API."""

import pytest

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import identity
from nova_gpu_filter.fleet import quota

SECOND = "http://keystone/v3/projects?marker=1"


def _projects(path):
    return {
        "/projects": {
            "projects": [{"id": "1", "name": "one"}],
            "links": {"next": SECOND},
        },
        SECOND: {
            "projects": [{"id": "2", "name": "two"}],
            "links": {"next": None},
        },
        "/projects?name=two": {"projects": [{"id": "2", "name": "two"}]},
        "/projects?name=same": {"projects": [{"id": "3"}, {"id": "4"}]},
        "/projects?name=none": {"projects": []},
    }[path]


def _get(path):
    if path == "/projects/2":
        return {"project": {"id": "2", "name": "two"}}
    if path.startswith("/projects/"):
        raise errors.NotFound(service="Keystone", path=path)
    return _projects(path)


def test_all_pages_of_projects_are_read():
    assert identity.read_projects(_get) == {"1": "one", "2": "two"}


@pytest.mark.parametrize("name", ["2", "two"])
def test_a_project_is_found_by_name_or_uuid(name):
    assert identity.find_project(_get, name) == ("2", "two")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none", "no project 'none'; did you mean one?"),
        ("same", "there are 2 projects 'same': give a UUID, 3 or 4"),
    ],
)
def test_a_project_that_is_not_there_is_told(name, line):
    with pytest.raises(errors.FleetError) as caught:
        identity.find_project(_get, name)
    assert str(caught.value) == line


def _limit(service="nova", region=None, project="p", resource="class:A"):
    return {
        "service_id": service,
        "region_id": region,
        "project_id": project,
        "resource_name": resource,
    }


def _limits(path):
    return {
        "/services?type=compute": {"services": [{"id": "nova"}]},
        "/registered_limits": {
            "registered_limits": [
                {**_limit(region="north"), "default_limit": 1},
                {**_limit(), "default_limit": 2},
                {**_limit("glance"), "default_limit": 3},
                {**_limit(resource="servers"), "default_limit": 4},
            ]
        },
        "/limits": {
            "limits": [
                {**_limit(region="south"), "resource_limit": 5},
                {**_limit(), "resource_limit": 6},
                # Of a domain.
                {**_limit(project=None), "resource_limit": 7},
                {**_limit("glance"), "resource_limit": 8},
            ]
        },
    }[path]


@pytest.mark.parametrize(
    ("region", "default", "own"),
    [("north", 1, 6), ("south", 2, 5), ("east", 2, 6), (None, 1, 5)],
)
def test_limits_are_those_of_nova_in_the_region(region, default, own):
    assert identity.read_limits(_limits, region, ()) == quota.Limits(
        {"class:A": default, "servers": 4}, {("p", "class:A"): own}
    )


@pytest.mark.parametrize(
    ("defaults", "own", "used", "limit", "left"),
    [
        ({"class:A": 4}, {}, 1, 4, 3),
        ({"class:A": 4}, {("p", "class:A"): 0}, 0, 0, 0),
        ({"class:A": 4}, {("p", "class:A"): -1}, 9, -1, None),
        ({"class:A": 4}, {("other", "class:A"): 1}, 5, 4, 0),
        ({}, {}, 2, None, None),
    ],
)
def test_what_is_left_of_a_limit(defaults, own, used, limit, left):
    (found,) = quota.list_project_quotas(
        "p", "lab", {"A": ("a",)}, quota.Limits(defaults, own), {"A": used}
    )
    assert (found.limit, found.used, found.left) == (limit, used, left)
    assert found.is_own is (("p", "class:A") in own)
