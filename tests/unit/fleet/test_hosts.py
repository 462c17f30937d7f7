# SPDX-License-Identifier: Apache-2.0

"""Which hosts take servers, by the services of Nova."""

import pytest

from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import hosts as reader
from nova_gpu_filter.fleet.model import Obstacle
from tests.unit.fleet import builders


def _service(host, status="enabled", state="up", forced_down=False):
    return {
        "host": host,
        "zone": "nova",
        "status": status,
        "state": state,
        "forced_down": forced_down,
        "disabled_reason": None,
    }


def _assigned(names, services, hypervisors=()):
    """Assign services to hosts: name -> (service, obstacles)."""
    nodes = {f"root-{name}": host for name, host in dict(hypervisors).items()}

    def get(path):
        if path == "/os-services?binary=nova-compute":
            return {"services": services}
        uuid = path.removeprefix("/os-hypervisors/")
        if uuid not in nodes:
            raise errors.NotFound(service="Nova", path=path)
        return {"hypervisor": {"service": {"host": nodes[uuid]}}}

    hosts = [builders.machine(name) for name in names]
    read = reader.read_services(get)
    return {
        host.name: (host.service.host, host.obstacles)
        for host in reader.assign_services(get, hosts, read)
    }


@pytest.mark.parametrize(
    ("service", "obstacles"),
    [
        ({}, ()),
        ({"status": "disabled"}, (Obstacle.DISABLED,)),
        ({"state": "down"}, (Obstacle.DOWN,)),
        # Nova says that it is down as well.
        ({"state": "down", "forced_down": True}, (Obstacle.FORCED_DOWN,)),
        (
            {"status": "disabled", "state": "down"},
            (Obstacle.DISABLED, Obstacle.DOWN),
        ),
    ],
)
def test_what_keeps_servers_away(service, obstacles):
    found = _assigned(["a"], [_service("a", **service)])
    assert found == {"a": ("a", obstacles)}


def test_a_host_may_have_a_domain_that_its_service_lacks():
    found = _assigned(
        ["a.example.org", "b"],
        [_service("a", state="down"), _service("b.example.org")],
    )
    assert found == {
        "a.example.org": ("a", (Obstacle.DOWN,)),
        "b": ("b.example.org", ()),
    }


def test_names_that_say_nothing_are_asked_for():
    found = _assigned(
        ["a.one", "a.two", "ironic-7"],
        [_service("x"), _service("y", state="down"), _service("z")],
        {"a.one": "x", "a.two": "y", "ironic-7": "z"},
    )
    assert found == {
        "a.one": ("x", ()),
        "a.two": ("y", (Obstacle.DOWN,)),
        "ironic-7": ("z", ()),
    }


def test_a_host_that_nova_does_not_know_takes_nothing():
    found = _assigned(["gone"], [_service("a")])
    assert found == {"gone": ("", (Obstacle.UNKNOWN,))}


def test_devices_of_a_host_that_is_down_are_not_available():
    host = builders.machine("a", used=(0,), reserved=(1,))
    down = host.with_service(reader._NOT_IN_NOVA)
    assert {d.state.value for d in down.devices} == {
        "used",
        "reserved",
        "unavailable",
    }
    assert not any(d.is_free for d in down.devices)
    assert down.without_obstacles().devices == host.devices
