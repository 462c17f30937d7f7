# SPDX-License-Identifier: Apache-2.0

"""What Placement, Nova, flavors and aliases disagree on."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import drift
from nova_gpu_filter.fleet import holders
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules.alias import Alias
from tests.unit.fleet import builders

H100 = Alias("h100", builders.H100, frozenset())
HOSTS = ("a", "b", "c", "d")


def _flavor(name="f", **specs):
    extra = {key.replace("__", ":"): value for key, value in specs.items()}
    return model.Flavor(name, 1, 1, 1, extra)


def _server(uuid, text="h100:1", status="ACTIVE", host="a"):
    flavor = _flavor(pci_passthrough__alias=text) if text else _flavor()
    return model.Server(uuid, uuid, "project", status, host, flavor)


def _cloud(hosts, **changes):
    hosts = tuple(hosts)
    owners = {
        device.uuid: (model.Owner("one", "project", 1),)
        for host in hosts
        for device in host.devices
        if device.amount.used
    }
    number = len(owners)
    read = {
        "hosts": hosts,
        "owners": owners,
        "servers": {"one": _server("one", f"h100:{number}")} if owners else {},
        "flavors": [_flavor(pci_passthrough__alias="h100:1")],
        "hypervisors": {host.uuid for host in hosts},
        "totals": {},
        "aliases": {"h100": H100},
        "alias_source": "nova.conf",
    }
    read |= changes
    servers = read["servers"].values()
    known = [holders.Holder(server.uuid, server) for server in servers]
    return drift.Cloud(**{"holders": holders.Holders(owners, known), **read})


def _found(cloud):
    return [(f.kind.value, f.subject, f.text) for f in drift.find(cloud)]


def _equal_hosts(change=None):
    """Make four hosts with two devices; change the first of host c."""
    for name in HOSTS:
        devices = [builders.device(name, bus) for bus in (1, 2)]
        if change and name == "c":
            devices[0] = dataclasses.replace(devices[0], **change)
        yield builders.host(name, devices)


def test_a_cloud_in_order_has_no_findings():
    cloud = _cloud([builders.machine("a", used=(0, 1)), *_equal_hosts()])
    assert _found(cloud) == []


@pytest.mark.parametrize(
    ("alias", "missing"),
    [
        (Alias("x", "CUSTOM_X", frozenset()), "CUSTOM_X"),
        (
            Alias("x", builders.H100, frozenset({"CUSTOM_FAST"})),
            "CUSTOM_GPU_H100 and CUSTOM_FAST",
        ),
    ],
)
def test_an_alias_without_device(alias, missing):
    cloud = _cloud(_equal_hosts(), aliases={"h100": H100, "x": alias})
    assert _found(cloud) == [
        (
            "alias without device",
            "x",
            f"no provider has {missing}: correct the alias, or"
            " [pci]device_spec of the compute nodes",
        )
    ]


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        (
            {"pci_passthrough__alias": "x:1"},
            "asks for alias x, which is not in nova.conf: nova-api refuses"
            " such servers",
        ),
        (
            {"pci_passthrough__alias": "h100"},
            "pci_passthrough:alias = 'h100': 'h100' is not <alias>:<number>",
        ),
    ],
)
def test_a_flavor_that_cannot_be_had(specs, text):
    cloud = _cloud(_equal_hosts(), flavors=[_flavor(**specs), _flavor("g")])
    assert _found(cloud) == [("flavor", "f", text)]


def test_without_aliases_nothing_is_said_of_flavors():
    flavors = [_flavor(pci_passthrough__alias="x:1")]
    cloud = _cloud(_equal_hosts(), flavors=flavors, aliases={})
    assert _found(cloud) == []


def test_a_host_that_nova_does_not_know():
    cloud = _cloud(_equal_hosts())
    cloud = dataclasses.replace(
        cloud, hypervisors=set(cloud.hypervisors) - {"root-b"}
    )
    ((kind, subject, text),) = _found(cloud)
    assert (kind, subject) == ("host not in Nova", "b")
    assert text.startswith("Nova has no compute node root-b: ")


def test_a_provider_without_inventory():
    cloud = _cloud(_equal_hosts({"resource_class": None}))
    ((kind, subject, _),) = _found(cloud)
    assert (kind, subject) == ("provider without inventory", "c_0000:01:00.0")


def test_links_that_cannot_be_read():
    device = builders.device("a", 1, traits=("CUSTOM_GPU_LINK_WARP_1",))
    ((kind, subject, text),) = _found(_cloud([builders.host("a", [device])]))
    assert (kind, subject) == ("links cannot be read", "a")
    assert text.startswith("a_0000:01:00.0: gpu_links")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"resource_class": "CUSTOM_OTHER"},
            "resource class CUSTOM_OTHER; 3 of 4 hosts with the same"
            " addresses have CUSTOM_GPU_H100: compare [pci]device_spec",
        ),
        (
            {"traits": frozenset({"CUSTOM_B", "CUSTOM_A"})},
            "traits CUSTOM_A, CUSTOM_B; 3 of 4 hosts with the same addresses"
            " have none: compare [pci]device_spec",
        ),
    ],
)
def test_a_device_other_than_its_peers(change, text):
    assert _found(_cloud(_equal_hosts(change))) == [
        ("other than its peers", "c_0000:01:00.0", text)
    ]


def test_of_two_hosts_neither_is_right():
    hosts = list(_equal_hosts({"traits": frozenset({"CUSTOM_A"})}))
    assert _found(_cloud(hosts[1:3])) == []


@pytest.mark.parametrize(
    ("used", "capacity", "total", "is_found"),
    [(2, 1, 1, True), (1, 0, 1, False), (1, 0, 0, True), (4, 4, None, False)],
)
def test_usage_above_inventory(used, capacity, total, is_found):
    device = builders.device("a", 1, used, capacity)
    assert drift.is_overused(device) is (total is not None)
    totals = {} if total is None else {device.uuid: total}
    cloud = _cloud([builders.host("a", [device])], totals=totals)
    kinds = [kind for kind, _, _ in _found(cloud)]
    assert kinds == (["usage above inventory"] if is_found else [])


def test_an_allocation_without_server():
    cloud = _cloud([builders.machine("a", used=(0, 1))], servers={})
    ((kind, subject, text),) = _found(cloud)
    assert (kind, subject) == ("allocation without server", "one")
    assert text.startswith("has a_0000:1B:00.0, a_0000:43:00.0, but Nova has")
    migration = model.Migration("one", "s", "resize", "finished", "a")
    moving = holders.Holder("one", None, migration)
    cloud = dataclasses.replace(
        cloud, holders=holders.Holders(cloud.owners, [moving])
    )
    assert _found(cloud) == []


@pytest.mark.parametrize(
    ("server", "known", "text"),
    [
        (
            _server("one", "h100:3"),
            {"h100": H100},
            "its flavor says 3 CUSTOM_GPU_H100, its allocation 2 (one on a)",
        ),
        (
            _server("one", "x:3"),
            {},
            "its flavor says 3 devices, its allocation 2 (one on a)",
        ),
        (_server("one", "h100:2"), {"h100": H100}, None),
        (_server("one", "h100:1"), {"h100": H100}, None),
        (_server("one", "h100"), {"h100": H100}, None),
        (_server("one", None), {"h100": H100}, None),
        (_server("one", "h100:3", status="ERROR"), {"h100": H100}, None),
        (_server("one", "h100:3", host=None), {"h100": H100}, None),
    ],
)
def test_a_server_with_fewer_devices_than_its_flavor_says(server, known, text):
    cloud = _cloud(
        [builders.machine("a", used=(0, 1))],
        servers={"one": server},
        aliases=known,
    )
    expected = (
        [] if text is None else [("server with too few devices", "one", text)]
    )
    assert _found(cloud) == expected


def test_a_device_of_nova_and_cyborg_is_told():
    traits = frozenset({"OWNER_CYBORG", "COMPUTE_MANAGED_PCI_DEVICE"})
    hosts = [
        builders.host("a", [builders.device("a", 1, traits=traits)]),
    ]
    [(kind, subject, text)] = _found(_cloud(hosts))
    assert kind == "configured for Cyborg as well"
    assert subject == "a_0000:01:00.0"
    assert "[pci]device_spec" in text


@pytest.mark.parametrize(
    ("address", "is_told"), [("0000:01:00.0", True), ("0000:02:00.0", False)]
)
def test_a_gpu_that_is_given_away_whole_and_divided_is_told(address, is_told):
    whole = builders.device("a", 1)
    divided = dataclasses.replace(
        builders.device("a", 1, resource_class="VGPU"),
        uuid="divided",
        name="a_pci_0000_01_00_0",
        address=address,
        is_mediated=True,
    )
    found = _found(_cloud([builders.host("a", [whole, divided])]))
    assert [(kind, subject) for kind, subject, _ in found] == (
        [("given away in two ways", "a_pci_0000_01_00_0")] if is_told else []
    )
