# SPDX-License-Identifier: Apache-2.0

"""What operators type, on a cloud where one server has 4 GPUs and one has 1.

All tests of this module look at the same servers, which are booted once.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import uuid

from lxml import etree
import pytest

from cloud import bootstrap
from tests.cloud import conftest
from tests.cloud import operators
from tests.cloud import views
from tests.cloud import waiting

RESOURCE_CLASS = "CUSTOM_GPU_H100_SXM5_80GB"
GPUS = {"hgx-1": 8, "hgx-2": 8}
USED = {"hgx-1": 4, "hgx-2": 1}
FREE = {host: GPUS[host] - USED[host] for host in GPUS}
SIZES = (1, 2, 4, 8)


@pytest.fixture(scope="module", autouse=True)
def _leave_it_clean(cloud, user):
    """Empty the cloud after the module, and not after each test."""
    with conftest.left_clean(cloud, user):
        yield


@dataclasses.dataclass(frozen=True)
class _Servers:
    """UUIDs of what was booted, and what each has been given."""

    four: str
    one: str
    failed: str
    """For it no host has enough left."""
    addresses: dict[str, list[str]]
    """PCI addresses of the GPUs of a server, as libvirt has them."""


@pytest.fixture(scope="module")
def servers(cloud, user, _leave_it_clean):
    """Boot the servers."""
    uuids = {}
    for name, gpus, host, status in (
        ("four", 4, "hgx-1", "ACTIVE"),
        ("one", 1, "hgx-2", "ACTIVE"),
        ("failed", 8, None, "ERROR"),
    ):
        server = user.boot(name, bootstrap.flavor(gpus), host)
        assert server["status"] == status
        uuids[name] = server["id"]
    view = views.look(cloud)
    assert view.disagreements() == []
    return _Servers(
        **uuids,
        addresses={
            name: [address for _, address in view.of(uuid, "libvirt")]
            for name, uuid in uuids.items()
        },
    )


@pytest.fixture(scope="module")
def gpu(user):
    """Run ``openstack gpu`` and return its JSON."""

    def run(*arguments):
        return user.openstack("gpu", *arguments, "-f", "json")

    return run


@pytest.fixture(scope="module")
def aliases(cloud):
    """Name the file with the aliases, as an option."""
    return ("--nova-conf", str(cloud.files.path("nova/nova.conf")))


def test_devices_are_listed_with_what_is_free_and_who_has_the_rest(
    user, gpu, servers
):
    everything = gpu("device", "list")
    free = gpu("device", "list", "--free")
    of_four = gpu("device", "list", "--server", "four")
    of_host = gpu("device", "list", "--host", "hgx-2")

    assert len(everything) == sum(GPUS.values())
    assert {device["State"] for device in everything} == {"free", "used"}
    assert [d for d in everything if d["State"] == "free"] == free
    assert len(free) == sum(FREE.values())
    assert [device["Address"] for device in of_four] == (
        servers.addresses["four"]
    )
    assert {device["Host"] for device in of_four} == {"hgx-1"}
    assert {
        (device["Server"], device["Project"], device["Address"])
        for device in of_host
        if device["Server"]
    } == {("one", "admin", *servers.addresses["one"])}
    assert len(of_host) == GPUS["hgx-2"]


def test_a_device_is_shown_with_its_links_and_its_server(gpu, servers):
    [address] = servers.addresses["one"]
    device = gpu("device", "show", f"hgx-2_{address}")
    assert (device["state"], device["server"]) == ("used", "one")
    assert device["resource_class"] == RESOURCE_CLASS
    assert {text.split()[0] for text in device["linked_to"].values()} == {
        "NV18"
    }
    assert len(device["linked_to"]) == GPUS["hgx-2"] - 1
    assert gpu("device", "show", device["provider"]) == device


def test_hosts_are_listed_and_shown_in_numbers(gpu, servers):
    rows = {row["Host"]: row for row in gpu("host", "list")}
    assert {host: row["Total"] for host, row in rows.items()} == GPUS
    assert {host: row["Used"] for host, row in rows.items()} == USED
    assert {host: row["Free"] for host, row in rows.items()} == FREE
    assert rows["hgx-1"]["Largest Set"]["fabric"] == 4
    assert rows["hgx-2"]["Largest Set"]["nvlink"] == 7
    assert rows["hgx-2"]["Partitions"]["8"] == {"intact": 0, "total": 1}

    shown = gpu("host", "show", "hgx-1")
    assert shown["servers"] == {"four": 4}
    prefix = RESOURCE_CLASS.removeprefix("CUSTOM_").lower()
    assert shown[f"{prefix}_free"] == FREE["hgx-1"]


def test_a_host_is_drawn_in_the_terminal_and_as_svg(user, servers, tmp_path):
    text = user.openstack("gpu", "topology", "show", "hgx-1")
    rows = [line for line in text.splitlines() if " four " in line]
    assert [row.split()[0] for row in rows] == servers.addresses["four"]

    path = tmp_path / "hgx-2.svg"
    user.openstack("gpu", "topology", "show", "hgx-2", "--svg", str(path))
    drawn = etree.parse(path).getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    [address] = servers.addresses["one"]
    titles = [title.text for title in drawn.iter("{*}title")]
    assert [t for t in titles if t.startswith(address) and ", one," in t]
    assert len([t for t in titles if ", free," in t]) == FREE["hgx-2"]


def test_capacity_is_what_the_free_gpus_hold(gpu, aliases, servers):
    flavors = [
        part for gpus in SIZES for part in ("--flavor", bootstrap.flavor(gpus))
    ]
    counted = {
        row["Flavor"]: row["Servers"]
        for row in gpu("capacity", *flavors, *aliases)
    }
    assert counted == {
        bootstrap.flavor(gpus): sum(free // gpus for free in FREE.values())
        for gpus in SIZES
    }


def test_a_flavor_that_fits_nowhere_is_explained_by_who_has_the_gpus(
    gpu, aliases, servers
):
    rows = gpu("explain", "--flavor", bootstrap.flavor(8), *aliases)
    assert {row["Host"]: row["Servers"] for row in rows} == {
        "hgx-1": 0,
        "hgx-2": 0,
    }
    by_host = {row["Host"]: row for row in rows}
    for host, name, count in (
        ("hgx-1", "four", "4 devices"),
        ("hgx-2", "one", "1 device"),
    ):
        assert by_host[host]["Blocked By"] == [f"{name}: {count}"]
        assert f"without {name}" in by_host[host]["Would Fit"]


@pytest.mark.parametrize(
    ("name", "pattern", "fitting"),
    [
        ("four", "four: ACTIVE on hgx-1 with {addresses}$", 2),
        ("failed", "failed: ERROR: No valid host", 0),
    ],
)
def test_a_server_is_explained_with_what_became_of_it(
    user, aliases, servers, name, pattern, fitting
):
    done = user.try_openstack(
        *("gpu", "explain", "--server", name, *aliases, "-f", "json")
    )
    assert done.returncode == 0, done.stderr
    addresses = " ".join(servers.addresses[name])
    first, second = done.stderr.splitlines()[:2]
    assert re.match(pattern.format(addresses=re.escape(addresses)), first)
    assert second.startswith(f"{bootstrap.flavor(4 if fitting else 8)}: ")
    rows = json.loads(done.stdout)
    assert sum(row["Servers"] for row in rows) == fitting


@contextlib.contextmanager
def nova_compute(user, host, *changes):
    """Change a nova-compute as an operator does, and put it back."""
    user.openstack("compute", "service", "set", *changes, host, "nova-compute")
    try:
        yield
    finally:
        undo = {"--down": "--up", "--disable": "--enable"}
        user.openstack(
            *("compute", "service", "set", *(undo[c] for c in changes)),
            *(host, "nova-compute"),
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("--down", "nova-compute is forced down"),
        ("--disable", "nova-compute is disabled"),
    ],
)
def test_nothing_counts_on_a_host_that_takes_no_servers(
    user, gpu, aliases, servers, change, reason
):
    one = bootstrap.flavor(1)
    with nova_compute(user, "hgx-2", change):
        rows = {row["Host"]: row for row in gpu("host", "list")}
        assert rows["hgx-2"]["Free"] == 0
        assert rows["hgx-2"]["Unavailable"] == FREE["hgx-2"]
        assert rows["hgx-1"]["Free"] == FREE["hgx-1"]
        [counted] = gpu("capacity", "--flavor", one, *aliases)
        assert counted["Servers"] == FREE["hgx-1"]
        rows = {
            row["Host"]: row
            for row in gpu("explain", "--flavor", one, *aliases)
        }
        assert rows["hgx-2"]["Reason"] == [reason]
        assert rows["hgx-2"]["Blocked By"] == []
    rows = {row["Host"]: row for row in gpu("host", "list")}
    assert rows["hgx-2"]["Free"] == FREE["hgx-2"]


@pytest.fixture
def impatient_api(cloud, servers):
    """Have the API miss a nova-compute after two reports, and not after 18."""
    cloud.files.write("nova/nova.conf", {"DEFAULT": {"service_down_time": 25}})
    cloud.restart("nova-api")
    yield
    cloud.files.write("nova/nova.conf")
    cloud.restart("nova-api")


def test_a_nova_compute_that_died_takes_its_host_away(
    cloud, gpu, servers, impatient_api
):
    def status():
        rows = {row["Host"]: row for row in gpu("host", "list")}
        return rows["hgx-2"]["Status"], rows["hgx-2"]["Free"]

    pid = cloud.processes.pid("nova-compute@hgx-2")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert waiting.until(lambda: status() == ("down", 0)), status()
    finally:
        os.kill(pid, signal.SIGCONT)
    expected = ("enabled", FREE["hgx-2"])
    assert waiting.until(lambda: status() == expected), status()


def test_a_size_that_no_partition_has_can_never_fit(user, aliases, servers):
    flavor = user.flavor(
        "gpu.h100.5.fabric",
        {"pci_passthrough:alias": "h100:5", "gpu:link": "fabric"},
    )
    done = user.try_openstack("gpu", "explain", "--flavor", flavor, *aliases)
    assert done.returncode == 0, done.stderr
    assert "can never fit on any of 2 hosts; nearest: it would" in done.stderr
    assert "with h100:4" in done.stderr


def test_a_member_sees_the_quota_of_its_project(cloud, user, servers):
    """With a token that may read neither services nor projects."""
    resource = f"class:{RESOURCE_CLASS}"
    made = user.openstack(
        *("registered", "limit", "create", "--service", "nova"),
        *("--default-limit", "0", resource, "-f", "json"),
    )
    user.openstack("project", "create", "lab")
    user.openstack(
        "user", "create", "member", "--project", "lab", "--password", "secret"
    )
    user.openstack(
        "role", "add", "--project", "lab", "--user", "member", "member"
    )
    try:
        done = user.try_openstack(
            *("--os-username", "member", "--os-password", "secret"),
            *("--os-project-name", "lab", "gpu", "quota", "-f", "json"),
        )
    finally:
        user.openstack("user", "delete", "member")
        user.openstack("project", "delete", "lab")
        user.openstack("registered", "limit", "delete", made["id"])
    assert done.returncode == 0, done.stderr
    assert [
        (row["Project"], row["Resource Class"], row["Limit"], row["Used"])
        for row in json.loads(done.stdout)
    ] == [("lab", RESOURCE_CLASS, "0", 0)]


@pytest.mark.parametrize("command", ["device list", "host list", "host show"])
def test_what_is_not_there_ends_with_what_is(user, servers, command):
    option = ("hgx1",) if command == "host show" else ("--model", "h100")
    done = user.try_openstack("gpu", *command.split(), *option)
    assert done.returncode == 1
    assert "H100 SXM5 80GB" in done.stderr or "hgx-1" in done.stderr


def send(user, method, path, body=None):
    """Ask Placement for something that it cannot refuse."""
    reply = user.placement.request(
        path, method, json=body, raise_exc=False, microversion="1.36"
    )
    assert reply.ok, reply.text
    return reply


@pytest.fixture
def consumer_of_nothing(user, gpu, servers):
    """Give a free device to a consumer that is no server."""
    device = gpu("device", "list", "--free", "-c", "Provider")[-1]
    consumer = str(uuid.uuid4())
    send(
        user,
        "PUT",
        f"/allocations/{consumer}",
        {
            "allocations": {
                device["Provider"]: {"resources": {RESOURCE_CLASS: 1}}
            },
            "project_id": "gone",
            "user_id": "gone",
            "consumer_generation": None,
        },
    )
    yield consumer
    # It may have been removed as drift says.
    user.placement.request(
        f"/allocations/{consumer}", "DELETE", raise_exc=False
    )


@pytest.fixture
def host_that_is_gone(user):
    """Leave providers of a host that Nova does not know."""
    root, device = (str(uuid.uuid4()) for _ in range(2))
    host = "gone-1"
    address = "0000:1B:00.0"
    for body in (
        {"uuid": root, "name": host},
        {
            "uuid": device,
            "name": f"{host}_{address}",
            "parent_provider_uuid": root,
        },
    ):
        send(user, "POST", "/resource_providers", body)
    yield host, f"{host}_{address}"
    for provider in (device, root):
        send(user, "DELETE", f"/resource_providers/{provider}")


@pytest.fixture
def server_with_too_few(cloud, user, servers):
    """Take one of four devices from a server in Placement, and give it back.

    Its nova-compute stands still meanwhile: it would give the device back by
    itself (nova/compute/pci_placement_translator.py, update_allocations).
    """
    path = f"/allocations/{servers.four}"
    nova_compute = cloud.processes.pid("nova-compute@hgx-1")
    os.kill(nova_compute, signal.SIGSTOP)
    try:
        full = send(user, "GET", path).json()
        devices = [
            provider
            for provider, held in full["allocations"].items()
            if RESOURCE_CLASS in held["resources"]
        ]
        few = {
            **full,
            "allocations": {
                provider: held
                for provider, held in full["allocations"].items()
                if provider != devices[0]
            },
        }
        send(user, "PUT", path, few)
        yield "four"
        generation = send(user, "GET", path).json()["consumer_generation"]
        send(user, "PUT", path, {**full, "consumer_generation": generation})
    finally:
        os.kill(nova_compute, signal.SIGCONT)


def test_a_cloud_in_order_has_no_drift(gpu, aliases, servers):
    assert gpu("drift", *aliases) == []


def test_drift_is_told_by_kind_and_subject(
    user,
    gpu,
    aliases,
    consumer_of_nothing,
    host_that_is_gone,
    server_with_too_few,
    note,
):
    host, provider = host_that_is_gone
    unmatched = {"name": "h900", "resource_class": "CUSTOM_GPU_H900"}
    found = gpu("drift", *aliases, "--alias", json.dumps(unmatched))
    assert [(row["Kind"], row["Subject"]) for row in found] == [
        ("alias without device", "h900"),
        ("host not in Nova", host),
        ("provider without inventory", provider),
        ("allocation without server", consumer_of_nothing),
        ("server with too few devices", server_with_too_few),
    ]
    note(f"{len(found)} findings of drift")
    [command] = operators.follow_drift(user, "allocation without server")
    assert consumer_of_nothing in command
    assert [row["Subject"] for row in gpu("drift", *aliases)] == [
        host,
        provider,
        server_with_too_few,
    ]


def test_a_flavor_is_checked_against_the_hosts_there_are(
    cloud, user, aliases, servers
):
    inventory = str(cloud.files.path("nova/hgx-1.inventory.json"))

    def check(flavor):
        done = user.try_openstack(
            *("gpu", "flavor", "check", flavor, "--image", bootstrap.IMAGE),
            *("--inventory", inventory, *aliases, "-f", "json"),
        )
        assert "Traceback" not in done.stderr
        return done.returncode, {
            (row["Severity"], row["Key"]) for row in json.loads(done.stdout)
        }

    # Eight H100 do not fit into what a guest has of address space.
    code, found = check(bootstrap.flavor(8))
    assert code == 0
    assert ("warning", "hw:maxphysaddr_mode") in found
    many = user.flavor("gpu.h100.9", {"pci_passthrough:alias": "h100:9"})
    code, found = check(many)
    assert code == 1
    assert ("error", "pci_passthrough:alias") in found


def test_quota_is_the_registered_limit_less_what_the_project_has(
    user, aliases, servers
):
    resource = f"class:{RESOURCE_CLASS}"
    made = user.openstack(
        *("registered", "limit", "create", "--service", "nova"),
        *("--default-limit", "12", resource, "-f", "json"),
    )
    try:
        done = user.try_openstack("gpu", "quota", *aliases, "-f", "json")
    finally:
        user.openstack("registered", "limit", "delete", made["id"])
    assert done.returncode == 0, done.stderr
    rows = [
        (row["Project"], row["Limit"], row["Used"], row["Left"])
        for row in json.loads(done.stdout)
        if row["Resource Class"] == RESOURCE_CLASS
    ]
    assert rows == [("admin", "12", 5, 7)]
    assert done.stderr == ""


def test_the_controller_is_checked(cloud, servers, tmp_path):
    good = cloud.files.path("nova/nova.conf").read_text().splitlines()
    unknown = {"name": "h900", "resource_class": "CUSTOM_GPU_H900"}
    place = good.index("[pci]") + 1
    other = [*good[:place], f"alias = {json.dumps(unknown)}", *good[place:]]

    def check(name, lines):
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return operators.check_upgrade(path)

    code, found, text = check("good.conf", good)
    assert set(found.values()) == {"Success"}, text
    assert {"Scheduler filter", "Placement extension"} <= found.keys()
    assert code == 0
    code, found, text = check("other.conf", other)
    assert [name for name, result in found.items() if result != "Success"] == [
        "Names in Placement"
    ]
    assert "CUSTOM_GPU_H900" in text
    assert code == 1


def test_metrics_are_scraped_over_http(cloud, servers):
    values = operators.scrape(cloud)
    assert values("nova_gpu_devices", "host", "state") == {
        (host, state): number
        for host in GPUS
        for state, number in (
            ("free", FREE[host]),
            ("used", USED[host]),
            ("reserved", 0),
            ("unavailable", 0),
        )
    }
    assert values("nova_gpu_project_devices_used", "project_name") == {
        ("admin",): sum(USED.values())
    }
    assert values(
        "nova_gpu_host_project_devices_used", "host", "project_name"
    ) == {(host, "admin"): used for host, used in USED.items()}
    capacity = values("nova_gpu_flavor_capacity", "flavor")
    assert capacity[bootstrap.flavor(4),] == 2
    assert capacity[bootstrap.flavor(8),] == 0
    assert set(values("nova_gpu_up", "service").values()) == {1}
