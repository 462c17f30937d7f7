# SPDX-License-Identifier: Apache-2.0

"""Whatever a service does, there is a reading, and one line in the log."""

import logging
import types
from urllib import parse

import pytest

from nova_gpu_filter.exporter import cloud_reader
from nova_gpu_filter.exporter import projects
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import known_aliases
from tests.unit.fleet import builders

ALIASES = known_aliases.parse(
    ['{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'], "test"
)
FLAVOR = {
    "id": "1",
    "name": "g4",
    "vcpus": 8,
    "ram": 1024,
    "disk": 10,
    "OS-FLV-EXT-DATA:ephemeral": 0,
    "swap": "",
    "extra_specs": {"pci_passthrough:alias": "h100:4"},
}


class Cloud:
    """Services that answer for hosts, and fail when they are told to."""

    def __init__(self, hosts, flavors=(FLAVOR,), used_by_project=None):
        self.hosts = list(hosts)
        self.flavors = list(flavors)
        self.used_by_project = dict(used_by_project or {})
        self.owners = {}
        """UUID of a device -> (consumer, project)."""
        self.generation = 1
        self.broken = {}
        self.down = set()
        self.asked = []
        self.services = types.SimpleNamespace(
            placement=self.placement, compute=self.nova, identity=self.keystone
        )

    def reader(self, projects_at_once=10, owner_requests=0, **scope):
        """Make a reader of this cloud."""
        return cloud_reader.Reader(
            self.services,
            cloud_reader.Scope(**{"alias_by_name": ALIASES, **scope}),
            projects.UsageReader(
                self.keystone, self.placement, projects_at_once
            ),
            owner_requests,
        )

    def _ask(self, service, path):
        self.asked.append(path)
        if service in self.broken:
            raise self.broken[service]
        url = parse.urlsplit(path)
        return url.path, dict(parse.parse_qsl(url.query))

    def placement(self, path):
        """Answer as Placement, for as much as is asked."""
        path, query = self._ask("placement", path)
        if path == "/usages":
            return {"usages": self.used_by_project[query["project_id"]]}
        if path.endswith("/allocations"):
            return {
                "resource_provider_generation": self.generation,
                "allocations": {
                    consumer: {"resources": {builders.H100: 1}}
                    for uuid, (consumer, _) in self.owners.items()
                    if uuid in path
                },
            }
        if path.startswith("/allocations/"):
            found = {
                uuid: project
                for uuid, (consumer, project) in self.owners.items()
                if consumer in path
            }
            return {
                "allocations": {
                    uuid: {
                        "generation": self.generation,
                        "resources": {builders.H100: 1},
                    }
                    for uuid in found
                },
                "project_id": next(iter(found.values())),
            }
        if path == "/resource_providers":
            return {
                "resource_providers": [
                    {
                        "uuid": provider.uuid,
                        "name": provider.name,
                        "root_provider_uuid": host.uuid,
                        "generation": self.generation,
                    }
                    for host in self.hosts
                    for provider in (host, *host.devices)
                ]
            }
        return {
            "provider_summaries": {
                uuid: {
                    "resources": {
                        name: {
                            "capacity": amount.capacity,
                            "used": amount.used,
                        }
                        for name, amount in amounts.items()
                    },
                    "traits": list(traits),
                }
                for host in self.hosts
                for uuid, amounts, traits in (
                    (host.uuid, host.amounts, host.traits),
                    *(
                        (
                            device.uuid,
                            {device.resource_class: device.amount},
                            device.traits,
                        )
                        for device in host.devices
                    ),
                )
            }
        }

    def nova(self, path):
        """Answer as Nova."""
        path, _ = self._ask("nova", path)
        if path == "/os-services":
            return {
                "services": [
                    {
                        "host": host.name,
                        "zone": "nova",
                        "status": "enabled",
                        "state": "down" if host.name in self.down else "up",
                    }
                    for host in self.hosts
                ]
            }
        return {"flavors": self.flavors}

    def keystone(self, path):
        """Answer as Keystone, one project a page."""
        _, query = self._ask("keystone", path)
        names = sorted(self.used_by_project)
        at = int(query.get("at", 0))
        following = f"/projects?at={at + 1}" if at + 1 < len(names) else None
        return {
            "projects": [
                {"id": name, "name": name.upper()}
                for name in names[at : at + 1]
            ],
            "links": {"next": following},
        }


def lines(caplog):
    """List what was logged since the last time."""
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture
def cloud():
    return Cloud(
        [
            builders.machine("hgx-1", used=range(4)),
            builders.machine("hgx-2"),
        ],
        used_by_project={
            "p1": {builders.H100: 4, "VCPU": 8},
            "p2": {"VCPU": 1},
        },
    )


def test_a_cloud_is_read(cloud, caplog):
    found = cloud.reader().read()
    assert [one.host.name for one in found.hosts] == ["hgx-1", "hgx-2"]
    assert found.servers_by_flavor == {"g4": 3}
    assert found.usage == (projects.Usage("p1", "P1", builders.H100, 4),)
    assert found.asked == ("placement", "nova", "keystone")
    assert found.failed == ()
    assert found.seconds >= 0
    assert lines(caplog) == []


def test_requests_do_not_grow_with_hosts(cloud):
    cloud.reader().read()
    few = len(cloud.asked)
    cloud.hosts = [builders.machine(f"hgx-{n}") for n in range(40)]
    cloud.asked.clear()
    cloud.reader().read()
    assert len(cloud.asked) == few == 8


@pytest.mark.parametrize(
    ("service", "hosts", "flavors", "usages"),
    [
        pytest.param("placement", 0, 0, 0, id="Placement"),
        pytest.param("nova", 2, 0, 1, id="Nova"),
        pytest.param("keystone", 2, 1, 0, id="Keystone"),
    ],
)
def test_what_one_service_does_not_tell_is_left_out(
    cloud, service, hosts, flavors, usages
):
    cloud.broken[service] = errors.Unreachable(service="It", error="down")
    found = cloud.reader().read()
    assert found.failed == (service,)
    assert len(found.hosts) == hosts
    assert len(found.servers_by_flavor) == flavors
    assert len(found.usage) == usages


def test_a_failure_is_one_line_until_it_is_another(cloud, caplog):
    caplog.set_level(logging.INFO)
    reader = cloud.reader()
    cloud.broken["nova"] = errors.Unreachable(service="Nova", error="down")
    for _ in range(3):
        reader.read()
    assert lines(caplog) == ["Nova cannot be reached: down"]
    assert caplog.text == ""
    cloud.broken["nova"] = errors.Unreachable(service="Nova", error="slow")
    reader.read()
    assert lines(caplog) == ["Nova cannot be reached: slow"]
    cloud.broken.clear()
    reader.read()
    reader.read()
    assert lines(caplog) == ["Nova answers again"]


def test_an_error_of_our_own_is_logged_with_its_traceback(cloud, caplog):
    cloud.broken["placement"] = KeyError("resource_providers")
    found = cloud.reader().read()
    assert found.failed == ("placement",)
    assert "Traceback" in caplog.text


def test_a_cloud_without_devices_is_no_failure(cloud, caplog):
    cloud.hosts = []
    found = cloud.reader().read()
    assert (found.hosts, found.failed) == ((), ())
    assert found.servers_by_flavor == {"g4": 0}
    assert lines(caplog) == []


def test_a_flavor_with_an_unknown_alias_is_named_once(cloud, caplog):
    cloud.flavors.append(
        {
            **FLAVOR,
            "name": "a1",
            "extra_specs": {"pci_passthrough:alias": "l40s:1"},
        }
    )
    reader = cloud.reader()
    assert reader.read().servers_by_flavor == {"g4": 3}
    reader.read()
    [line] = lines(caplog)
    assert "flavor a1 asks for alias l40s" in line


def test_nothing_counts_on_a_host_that_is_down(cloud):
    cloud.down.add("hgx-2")
    found = cloud.reader().read()
    assert found.servers_by_flavor == {"g4": 1}
    assert [one.host.is_down for one in found.hosts] == [False, True]
    [summary] = found.hosts[1].models
    assert (summary.counts.free, summary.counts.unavailable) == (0, 8)


def test_without_aliases_nova_is_not_asked_for_flavors(cloud):
    found = cloud.reader(alias_by_name={}).read()
    assert found.asked == ("placement", "nova", "keystone")
    assert not [path for path in cloud.asked if "flavors" in path]


def test_other_resource_classes_can_be_left_out(cloud):
    cloud.hosts.append(
        builders.host(
            "nic-1",
            [builders.device("nic-1", 0x10, resource_class="CUSTOM_NIC")],
        )
    )
    found = cloud.reader(resource_classes=frozenset({builders.H100})).read()
    assert {
        one.resource_class for host in found.hosts for one in host.models
    } == {builders.H100}


def test_only_so_many_projects_are_asked_at_once_in_turn():
    cloud = Cloud(
        [builders.machine("hgx-1")],
        used_by_project={f"p{n}": {builders.H100: n} for n in range(5)},
    )
    reader = cloud.reader(projects_at_once=2)
    known = []
    for _ in range(3):
        cloud.asked.clear()
        known.append([one.project for one in reader.read().usage])
        asked = [path for path in cloud.asked if path.startswith("/usages")]
        assert len(asked) == 2
    assert known == [
        ["p0", "p1"],
        ["p0", "p1", "p2", "p3"],
        ["p0", "p1", "p2", "p3", "p4"],
    ]


def test_a_project_that_is_gone_is_not_told_of(cloud):
    reader = cloud.reader()
    assert len(reader.read().usage) == 1
    del cloud.used_by_project["p1"]
    assert reader.read().usage == ()


@pytest.fixture
def owned():
    """Two full hosts; of each, a project has one GPU and another seven."""
    cloud = Cloud(
        [builders.machine(f"hgx-{n}", used=range(8)) for n in (1, 2)],
        used_by_project={"p1": {builders.H100: 2}, "p2": {builders.H100: 14}},
    )
    for host in cloud.hosts:
        for number, device in enumerate(host.devices):
            cloud.owners[device.uuid] = (
                (f"small-{host.name}", "p1")
                if number == 0
                else (f"large-{host.name}", "p2")
            )
    return cloud


def by_host(found):
    """List usage by host: (host, project, used)."""
    return [(one.host, one.project, one.used) for one in found.usage_by_host]


def test_usage_by_host_adds_up_to_what_is_used(owned):
    found = owned.reader(owner_requests=20).read()
    assert by_host(found) == [
        (host, project, used)
        for host in ("hgx-1", "hgx-2")
        for project, used in (("p1", 1), ("p2", 7))
    ]
    assert found.names == {"p1": "P1", "p2": "P2"}
    [models] = {(one.resource_class, one.model) for one in found.usage_by_host}
    assert models == (builders.H100, "GPU_H100")


def test_owners_are_asked_about_a_few_at_a_time(owned):
    reader = owned.reader(owner_requests=16)
    first = reader.read()
    owned.asked.clear()
    assert by_host(first)[-1] == ("hgx-2", "", 8)
    assert by_host(first)[:-1] == [("hgx-1", "p1", 1), ("hgx-1", "p2", 7)]
    assert "" not in [project for _, project, _ in by_host(reader.read())]
    questions = [path for path in owned.asked if "/allocations" in path]
    # One of a device and one of its server, for two servers.
    assert len(questions) == 4


def test_owners_that_placement_does_not_tell_are_left_out(owned):
    reader = owned.reader(owner_requests=20)
    reader.read()
    owned.generation = 2
    owned.owners.clear()
    del owned.used_by_project["p2"]
    found = reader.read()
    assert by_host(found) == [("hgx-1", "", 8), ("hgx-2", "", 8)]
    owned.broken["placement"] = errors.Unreachable(service="P", error="down")
    assert by_host(reader.read()) == []


def test_usage_by_host_can_be_turned_off(owned):
    found = owned.reader(owner_requests=0).read()
    assert found.usage_by_host == ()
    assert not [path for path in owned.asked if "/allocations" in path]
