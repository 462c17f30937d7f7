# SPDX-License-Identifier: Apache-2.0

"""vGPUs of mediated devices, as Nova's libvirt driver makes them in Placement:
listed, counted, explained and compared as other devices are."""

import json
import re

import pytest

from demo import cloud as embedded
from demo import mediated
from tests.functional.osc import shell

# isort: split

from nova.conf import devices as nova_devices
from nova.virt.libvirt import driver as libvirt_driver

HOST = "vgpu-1"
FIRST, SECOND = "0000:81:00.0", "0000:81:01.0"
PROVIDER = f"{HOST}_pci_0000_81_00_0"
CUSTOM = "CUSTOM_VGPU_A40_8Q"
ALIAS = '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'


class _Cloud(embedded.EmbeddedCloud):
    """An embedded cloud with a host whose GPUs are divided."""

    def start(self):
        """Have a type for each of the two GPUs."""
        super().start()
        flags = self.services.flags
        types = [mediated.TYPE, mediated.OTHER_TYPE]
        flags(enabled_mdev_types=types, group="devices")
        nova_devices.register_dynamic_opts(libvirt_driver.CONF)
        for name, address in zip(types, (FIRST, SECOND), strict=True):
            flags(device_addresses=[address], group=f"mdev_{name}")
        flags(mdev_class=CUSTOM, group=f"mdev_{types[1]}")
        mediated.add_compute(self, HOST)


@pytest.fixture(scope="module")
def cloud():
    """A host with two GPUs: 16 VGPU on one, 8 of a class of its own."""
    with _Cloud("pci-in-placement.conf", extend_placement=True) as running:
        for name, specs in (
            ("vgpu.1", {"resources:VGPU": "1"}),
            ("vgpu.all", {"resources:VGPU": "16"}),
            ("vgpu.17", {"resources:VGPU": "17"}),
            ("a40", {f"resources:{CUSTOM}": "1"}),
            (
                "apart",
                {
                    "resources1:VGPU": "1",
                    "resources2:VGPU": "1",
                    "group_policy": "isolate",
                },
            ),
            ("plain", {}),
        ):
            running.create_flavor(name, specs)
        yield running


@pytest.fixture(scope="module")
def server(cloud):
    """A server with one vGPU."""
    found = cloud.boot("desktop", "vgpu.1")
    assert found.status == "ACTIVE", found.fault
    return found


@pytest.fixture
def openstack(cloud, server):
    """Return a function that runs a command and returns its JSON."""
    commands = shell.Shell(shell.connection(cloud))

    def run(*arguments, err=""):
        options = ("--alias", ALIAS) if arguments[0] in _ALIASED else ()
        result = commands.run("gpu", *arguments, *options, "-f", "json")
        assert result.code == 0, result.err
        assert re.fullmatch(err, result.err, re.DOTALL), result.err
        return json.loads(result.out)

    return run


_ALIASED = ("explain", "flavor")


def test_gpus_are_listed_with_what_is_free_of_them(openstack):
    first, second = openstack("device", "list", "--long")
    assert (first["Host"], first["Address"]) == (HOST, FIRST)
    assert (first["Model"], first["State"]) == ("VGPU", "partly used")
    assert (first["Free"], first["Used"]) == (15, 1)
    assert first["Server"] == "desktop"
    assert (second["Address"], second["Model"]) == (SECOND, "VGPU_A40_8Q")
    assert (second["Free"], second["State"]) == (8, "free")
    mine = openstack("device", "list", "--server", "desktop")
    assert [row["Address"] for row in mine] == [FIRST]


def test_custom_traits_tell_the_type(cloud, openstack, server):
    services = cloud.services
    uuid = openstack("device", "show", PROVIDER)["provider"]
    traits = services._get_provider_traits(uuid)
    services._create_trait("CUSTOM_NVIDIA_A40_4Q")
    services._set_provider_traits(uuid, [*traits, "CUSTOM_NVIDIA_A40_4Q"])
    try:
        rows = openstack("device", "list", "--model", "vgpu")
        assert [row["Model"] for row in rows] == ["VGPU NVIDIA_A40_4Q"]
    finally:
        services._set_provider_traits(uuid, traits)


@pytest.mark.parametrize("name", [PROVIDER, PROVIDER.upper(), "uuid"])
def test_a_gpu_is_shown_by_the_name_of_its_provider(cloud, openstack, name):
    if name == "uuid":
        name = openstack("device", "show", PROVIDER)["provider"]
    elif name != PROVIDER:
        name = HOST + PROVIDER[len(HOST) :].upper().replace("_PCI_", "_pci_")
    shown = openstack("device", "show", name)
    assert (shown["capacity"], shown["used"], shown["free"]) == (16, 1, 15)
    assert (shown["server"], shown["resource_class"]) == ("desktop", "VGPU")


def test_a_host_counts_them_by_class(cloud, openstack):
    rows = openstack("host", "list")
    assert [(r["Model"], r["Total"], r["Free"], r["Used"]) for r in rows] == [
        ("VGPU_A40_8Q", 8, 8, 0),
        ("VGPU", 16, 15, 1),
    ]
    assert openstack("host", "show", HOST)["servers"] == {"desktop": 1}
    drawn = shell.Shell(shell.connection(cloud)).run(
        "gpu", "topology", "show", HOST
    )
    assert "VGPU, 15 of 16 free" in drawn.out
    assert "desktop" in drawn.out


def test_as_many_servers_start_as_capacity_says(cloud, openstack):
    rows = openstack("capacity")
    assert {r["Flavor"]: (r["Devices"], r["Servers"]) for r in rows} == {
        "a40": (f"{CUSTOM}:1", 8),
        "apart": ("VGPU:2", 0),
        "vgpu.1": ("VGPU:1", 15),
        "vgpu.17": ("VGPU:17", 0),
        "vgpu.all": ("VGPU:16", 0),
    }
    started = cloud.boot_many("many", "a40", 8)
    try:
        assert {one.status for one in started} == {"ACTIVE"}
        (row,) = openstack("capacity", "--flavor", "a40")
        assert row["Servers"] == 0
        assert cloud.boot("late", "a40").status == "ERROR"
    finally:
        for one in started:
            cloud.delete(one)


def test_what_keeps_a_server_out_is_explained(cloud, openstack):
    (row,) = openstack("explain", "--flavor", "vgpu.1", err=".*15 fit.*")
    assert (row["Servers"], row["Reason"]) == (15, [])
    (row,) = openstack("explain", "--flavor", "vgpu.all", err=".*")
    assert row["Reason"] == ["too little VGPU: vgpu.all asks for 16; 15 free"]
    assert row["Blocked By"] == ["desktop: 1 device"]
    assert row["Would Fit"] == ["without desktop"]
    (row,) = openstack("explain", "--flavor", "vgpu.17", err=".*")
    assert row["Reason"][0].startswith("can never fit: too little VGPU")
    (row,) = openstack("explain", "--flavor", "apart", err=".*")
    assert row["Reason"] == [
        "can never fit: its 2 groups of resources want different providers"
        " each (group_policy=isolate), and fewer have them"
    ]
    assert cloud.boot("apart-1", "apart").status == "ERROR"


def test_a_flavor_that_asks_for_them_needs_no_alias(openstack):
    for name in ("vgpu.1", "a40"):
        found = openstack("flavor", "check", name)
        assert [one for one in found if one["Severity"] != "note"] == []


def test_drift_knows_them(cloud, openstack, server):
    drift = ("drift", "--alias", ALIAS)
    kinds = {row["Kind"] for row in openstack(*drift)}
    assert kinds == {"alias without device"}  # the only one that it names
    placement = cloud.services.placement
    path = f"/allocations/{server.uuid}"
    claimed = placement.get(path, version="1.28").body
    without = {
        uuid: {"resources": allocation["resources"]}
        for uuid, allocation in claimed["allocations"].items()
        if "VGPU" not in allocation["resources"]
    }
    changed = {**claimed, "allocations": without}
    answer = placement.put(path, changed, version="1.28")
    assert answer.status == 204, answer.body
    try:
        found = {row["Subject"]: row for row in openstack(*drift)}
        assert found["desktop"]["Kind"] == "server with too few devices"
        assert found["desktop"]["Finding"].startswith(
            "its flavor says 1 VGPU, its allocation 0"
        )
    finally:
        now = placement.get(path, version="1.28").body["consumer_generation"]
        again = {**claimed, "consumer_generation": now}
        answer = placement.put(path, again, version="1.28")
        assert answer.status == 204, answer.body


def test_what_nova_would_write_anew_is_not_quarantined(cloud, openstack):
    """nova-compute resets what is reserved of such a provider."""
    result = shell.Shell(shell.connection(cloud)).run(
        "gpu", "device", "quarantine", PROVIDER
    )
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        f"{PROVIDER} is divided into mediated devices"
    )
    assert result.err.count("\n") == 1
    assert openstack("device", "show", PROVIDER)["free"] == 15
