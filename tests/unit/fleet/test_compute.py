# SPDX-License-Identifier: Apache-2.0

"""Servers and flavors, from answers in the form of Nova's API."""

from urllib import parse

import pytest

from nova_gpu_filter.fleet import compute
from nova_gpu_filter.fleet import errors

FLAVOR = {
    "original_name": "train",
    "vcpus": 4,
    "ram": 1024,
    "disk": 1,
    "ephemeral": 2,
    "swap": 1025,
    "extra_specs": {"pci_passthrough:alias": "h100:1"},
}


class _Nova:
    """Pages of two, as where [api]max_limit = 2."""

    def __init__(self, names):
        self.servers = [
            {
                "id": f"id-{number}",
                "name": name,
                "tenant_id": "project",
                "status": "ACTIVE",
                "OS-EXT-SRV-ATTR:hypervisor_hostname": "hgx-1",
                "flavor": FLAVOR,
            }
            for number, name in enumerate(names)
        ]
        self.asked = []

    def get(self, path):
        self.asked.append(path)
        url = parse.urlsplit(path)
        query = dict(parse.parse_qsl(url.query))
        if url.path in ("/servers", "/servers/detail"):
            assert query["all_tenants"] == "true"
            ids = [server["id"] for server in self.servers]
            marker = query.get("marker")
            start = 1 + ids.index(marker) if marker else 0
            page = self.servers[start : start + 2]
            more = start + 2 < len(ids)
            return {
                "servers": page,
                **({"servers_links": [{"rel": "next"}]} if more else {}),
            }
        for server in self.servers:
            if url.path == f"/servers/{server['id']}":
                return {"server": server}
        raise errors.NotFound(service="Nova", path=path)


@pytest.mark.parametrize(("number", "pages"), [(0, 1), (2, 1), (5, 3)])
def test_all_pages_are_read(number, pages):
    nova = _Nova(["a"] * number)
    found = list(compute.read_all_servers(nova.get))
    assert [s.uuid for s in found] == [f"id-{n}" for n in range(number)]
    assert len(nova.asked) == pages


def test_a_server_has_its_own_flavor():
    (server,) = compute.read_all_servers(_Nova(["a"]).get)
    assert (server.name, server.project, server.host) == (
        "a",
        "project",
        "hgx-1",
    )
    flavor = server.flavor
    assert (flavor.name, flavor.vcpus, flavor.ram_mb) == ("train", 4, 1024)
    # As Nova asks Placement: swap in whole GB, rounded up.
    assert flavor.disk_gb == 1 + 2 + 2
    assert flavor.extra_specs == {"pci_passthrough:alias": "h100:1"}


@pytest.mark.parametrize(("image", "disk_gb"), [({"id": "i"}, 5), ("", 4)])
def test_a_server_from_a_volume_has_no_root_disk(image, disk_gb):
    nova = _Nova(["a"])
    nova.servers[0]["image"] = image
    (server,) = compute.read_all_servers(nova.get)
    assert server.flavor.disk_gb == disk_gb


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"version": {"version": "2.104"}}, (2, 104)),
        ({"version": {"version": ""}}, None),
        ({}, None),
    ],
)
def test_the_newest_microversion_is_read(answer, expected):
    assert compute.read_newest_microversion(lambda _: answer) == expected


def test_few_servers_are_read_one_by_one_and_the_unknown_left_out():
    nova = _Nova(["a", "b", "c"])
    assert set(compute.read_servers(nova.get, {"id-2", "id-9"})) == {"id-2"}
    assert sorted(nova.asked) == ["/servers/id-2", "/servers/id-9"]


def test_many_servers_are_read_from_the_list():
    nova = _Nova(["a"] * 60)
    wanted = {f"id-{n}" for n in range(55)} | {"gone"}
    assert set(compute.read_servers(nova.get, wanted)) == wanted - {"gone"}
    assert len(nova.asked) == 30


UUID = "6f0a4f0e-5a2c-4b0e-9a4b-0d7c8d2f6a11"


@pytest.mark.parametrize("name", [UUID, UUID.upper(), "b"])
def test_a_server_is_found_by_name_or_uuid(name):
    nova = _Nova("abcc")
    nova.servers[1]["id"] = name if name != "b" else UUID
    assert compute.find_server(nova.get, name).name == "b"


@pytest.mark.parametrize("name", ["detail", "a/b", "../flavors", "?x", "学习"])
def test_a_name_is_never_a_path(name):
    """GET /servers/detail lists servers."""
    nova = _Nova([name, "a"])
    assert compute.find_server(nova.get, name).name == name
    assert not [path for path in nova.asked if path == f"/servers/{name}"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("x", "no server 'x'; known: a, b"),
        ("c", "there are 2 servers 'c': give a UUID, id-2 or id-3"),
    ],
)
def test_a_server_that_is_not_there_is_told(name, line):
    with pytest.raises(errors.FleetError) as caught:
        compute.find_server(_Nova("abcc").get, name)
    assert str(caught.value) == line


def _flavors(path):
    assert path == "/flavors/detail?is_public=none&limit=1000"
    return {
        "flavors": [
            {
                "id": "42",
                "name": "train",
                "vcpus": 4,
                "ram": 1024,
                "disk": 1,
                "OS-FLV-EXT-DATA:ephemeral": 0,
                "swap": "",
                "extra_specs": {"gpu:link": "nvlink"},
            }
        ]
    }


@pytest.mark.parametrize("name", ["42", "train"])
def test_a_flavor_is_found_by_name_or_id(name):
    flavor = compute.find_flavor(_flavors, name)
    assert (flavor.uuid, flavor.disk_gb) == ("42", 1)
    assert flavor.extra_specs == {"gpu:link": "nvlink"}


def test_a_flavor_that_is_not_there_is_told():
    with pytest.raises(errors.Unknown, match="no flavor 'x'; known: train"):
        compute.find_flavor(_flavors, "x")


def _images(path):
    if path == "/images/one":
        return {"id": "one"}
    if path == "/images":
        return {"images": [{"name": "cuda"}]}
    if path.startswith("/images?name="):
        name = path.partition("=")[2]
        return {
            "images": {
                "b": [{"id": "2"}],
                "c": [{"id": "3"}, {"id": "4"}],
            }.get(name, [])
        }
    raise errors.NotFound(service="Glance", path=path)


@pytest.mark.parametrize(("name", "expected"), [("one", "one"), ("b", "2")])
def test_an_image_is_found_by_name_or_id(name, expected):
    assert compute.find_image(_images, name)["id"] == expected


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("x", "no image 'x'; known: cuda"),
        ("c", "there are 2 images 'c': give a UUID, 3 or 4"),
    ],
)
def test_an_image_that_is_not_there_is_told(name, line):
    with pytest.raises(errors.FleetError) as caught:
        compute.find_image(_images, name)
    assert str(caught.value) == line
