# SPDX-License-Identifier: Apache-2.0

"""How many more servers fit."""

import dataclasses

import pytest

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules.alias import Alias
from tests import machines
from tests.unit.fleet import builders

ALIASES = {
    "h100": Alias("h100", builders.H100, frozenset()),
    "fast": Alias("fast", builders.H100, frozenset({"CUSTOM_FAST"})),
    "cx7": Alias("cx7", "CUSTOM_CX7", frozenset()),
    "vf": Alias("vf", "CUSTOM_VF", frozenset()),
}


def flavor(devices="h100:1", vcpus=1, ram_mb=1024, disk_gb=1, **specs):
    """Make a flavor; a name of an extra spec is written with __ for a :."""
    extra = {key.replace("__", ":"): value for key, value in specs.items()}
    if devices:
        extra[extra_specs.ALIAS_KEY] = devices
    return model.Flavor("f", vcpus, ram_mb, disk_gb, extra)


def wanted(*args, **kwargs):
    return demand.calculate(flavor(*args, **kwargs), ALIASES, "nova.conf")


@pytest.mark.parametrize(
    ("asked", "amounts"),
    [
        ({}, {"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 1}),
        ({"disk_gb": 0}, {"VCPU": 1, "MEMORY_MB": 1024}),
        (
            {"hw__cpu_policy": "dedicated", "disk_gb": 0},
            {"PCPU": 1, "MEMORY_MB": 1024},
        ),
        (
            {"resources__VCPU": "0", "resources__CUSTOM_X": "2"},
            {"MEMORY_MB": 1024, "DISK_GB": 1, "CUSTOM_X": 2},
        ),
    ],
)
def test_a_flavor_takes_of_the_host_what_nova_asks_for(asked, amounts):
    assert dict(wanted(**asked).amounts) == amounts


def test_traits_come_from_flavor_and_image():
    found = demand.calculate(
        flavor(trait__CUSTOM_A="required", trait__CUSTOM_B="forbidden"),
        ALIASES,
        "nova.conf",
        {"trait:CUSTOM_C": "required", "hw_machine_type": "q35"},
    )
    assert found.required == {"CUSTOM_A", "CUSTOM_C"}
    assert found.forbidden == {"CUSTOM_B"}


@pytest.mark.parametrize(
    ("asked", "error", "line"),
    [
        (
            {"devices": "b200:1"},
            errors.NoAlias,
            "flavor f asks for alias b200, which is not in nova.conf:"
            " give --nova-conf <file> or --alias <json>",
        ),
        (
            {"devices": "h100"},
            errors.BadFlavor,
            "flavor f: pci_passthrough:alias = 'h100': 'h100' is not",
        ),
        (
            {"gpu__link": "fast"},
            errors.BadFlavor,
            "flavor f: gpu:link = 'fast': must be one of fabric,",
        ),
        (
            {"resources__VCPU": "two"},
            errors.BadFlavor,
            "flavor f: resources:VCPU = 'two' is no number",
        ),
    ],
)
def test_a_flavor_that_cannot_be_read_is_named(asked, error, line):
    with pytest.raises(error) as caught:
        wanted(**asked)
    assert str(caught.value).startswith(line)


HGX = machines.hgx_h100_partitions()
PAIRS = machines.bridge_pairs_h100_nvl()


@pytest.mark.parametrize(
    ("topology", "used", "asked", "servers"),
    [
        (HGX, (), {"devices": "h100:1"}, 8),
        (HGX, (0,), {"devices": "h100:4"}, 1),
        (HGX, (0, 7), {"devices": "h100:4", "gpu__link": "fabric"}, 0),
        (HGX, (0, 7), {"devices": "h100:4", "gpu__link": "nvlink"}, 1),
        (HGX, (0, 7), {"devices": "h100:2", "gpu__link": "fabric"}, 2),
        (PAIRS, (0,), {"devices": "h100:2", "gpu__link": "nvlink"}, 3),
        (PAIRS, (0, 2, 4, 6), {"devices": "h100:2"}, 2),
        (
            PAIRS,
            (0, 2, 4, 6),
            {"devices": "h100:2", "gpu__link": "nvlink"},
            0,
        ),
        (
            PAIRS,
            (0, 2, 4, 6),
            {
                "devices": "h100:2",
                "gpu__link": "nvlink",
                "gpu__link_policy": "preferred",
            },
            2,
        ),
        (HGX, (), {"devices": "h100:1", "vcpus": 100}, 2),
        (HGX, (), {"devices": "h100:1", "ram_mb": 1 << 20}, 2),
        (HGX, (), {"devices": "h100:1", "disk_gb": 20001}, 0),
        (HGX, (), {"devices": "h100:1", "resources__CUSTOM_X": "1"}, 0),
        (HGX, (), {"devices": "fast:1"}, 0),
        (HGX, (), {"devices": "h100:3,h100:1"}, 2),
        (HGX, (), {"devices": "h100:1,cx7:1"}, 0),
        (HGX, (), {"devices": "", "vcpus": 200}, 1),
    ],
)
def test_servers_that_fit_on_a_host(topology, used, asked, servers):
    host = builders.machine("a", topology, used)
    assert host_fit.count_fitting(host, wanted(**asked)) == servers


def test_a_shared_disk_does_not_count():
    host = builders.machine("a")
    del host.amounts["DISK_GB"]
    assert host_fit.count_fitting(host, wanted(disk_gb=1 << 30)) == 8


@pytest.mark.parametrize(
    ("traits", "servers"),
    [
        ((), 8),
        (("COMPUTE_STATUS_DISABLED",), 0),
        (("CUSTOM_BAD",), 0),
    ],
)
def test_a_host_may_not_be_used_at_all(traits, servers):
    host = builders.machine("a")
    host = dataclasses.replace(host, traits=frozenset(traits))
    asked = wanted(trait__CUSTOM_BAD="forbidden")
    assert host_fit.count_fitting(host, asked) == servers


def test_required_traits_are_of_the_host():
    asked = wanted(trait__CUSTOM_A="required")
    host = builders.machine("a")
    assert host_fit.count_fitting(host, asked) == 0
    host = dataclasses.replace(host, traits=frozenset({"CUSTOM_A"}))
    assert host_fit.count_fitting(host, asked) == 8


def test_vfs_are_counted_one_by_one():
    host = builders.host(
        "a",
        [
            builders.device("a", 1, 1, 4, resource_class="CUSTOM_VF"),
            builders.device("a", 2, 0, 4, resource_class="CUSTOM_VF"),
        ],
    )
    assert host_fit.count_fitting(host, wanted("vf:1")) == 7
    assert host_fit.count_fitting(host, wanted("vf:2")) == 3
    left = capacity.add_server(host, wanted("vf:5"))
    assert [d.amount.used for d in left.devices] == [4, 2]


def test_capacity_is_counted_over_the_cloud_and_by_host():
    hosts = [
        builders.machine("a", used=(0,)),
        builders.machine("b", used=range(8)),
        builders.machine("c"),
    ]
    (found,) = capacity.count_servers(hosts, [wanted("h100:4")])
    assert found.servers == 3
    assert found.by_host == (("a", 1), ("c", 2))
    assert found.in_mix == 3


def test_a_mix_shares_the_hosts():
    hosts = [builders.machine("a"), builders.machine("b", used=range(4))]
    four = wanted("h100:4", gpu__link="fabric")
    one = wanted("h100:1")
    alone = [
        found.servers for found in capacity.count_servers(hosts, [four, one])
    ]
    mixed = [
        found.in_mix for found in capacity.count_servers(hosts, [four, one])
    ]
    assert alone == [3, 12]
    # Fours and ones in turn: 4 + 1 + 4 + 1, then ones on what is left.
    assert mixed == [2, 4]
    assert mixed[0] * 4 + mixed[1] == 12


def test_a_server_takes_the_set_that_the_matcher_would_choose():
    host = builders.machine("a", PAIRS, used=(0,))
    left = capacity.add_server(host, wanted("h100:1"))
    used = [bit for bit, d in enumerate(left.devices) if d.amount.used]
    # The partner of the one that is taken: no other pair is broken.
    assert used == [0, 1]
    assert left.amounts["VCPU"].used == 1


def test_a_server_without_room_cannot_be_placed():
    host = builders.machine("a", used=range(8))
    with pytest.raises(ValueError, match="a: no 1 free devices"):
        capacity.add_server(host, wanted("h100:1"))


@pytest.mark.parametrize(
    ("free", "groups", "policy", "servers"),
    [
        ((4,), 2, "none", 2),
        ((4,), 2, "isolate", 0),
        ((4, 4), 2, "isolate", 4),
        ((4, 1), 2, "isolate", 1),
        ((4, 4, 1), 2, "isolate", 4),
        ((2, 2, 2), 2, "isolate", 3),
        ((1, 1), 3, "isolate", 0),
        ((5, 0), 1, "isolate", 5),
    ],
)
def test_groups_that_want_different_providers(free, groups, policy, servers):
    """As many servers as are counted find their devices one by one."""
    host = builders.host(
        "a",
        [
            builders.device("a", bus, 0, number, "VGPU")
            for bus, number in enumerate(free, 1)
            if number
        ],
    )
    asked = wanted(
        devices=None,
        group_policy=policy,
        **{f"resources{number}__VGPU": "1" for number in range(groups)},
    )
    assert host_fit.count_fitting(host, asked) == servers
    for _ in range(servers):
        host = capacity.add_server(host, asked)
    assert not host_fit.fits(host, asked)


FAST = "CUSTOM_FAST"


@pytest.mark.parametrize(
    ("free", "asked", "servers"),
    [
        # Only the first has the trait.
        (
            (5, 3),
            {
                "group_policy": "isolate",
                "resources1__VGPU": "1",
                "resources2__VGPU": "1",
                f"trait2__{FAST}": "required",
            },
            3,
        ),
        # Only the first has as many.
        ((2, 1), {"resources1__VGPU": "1", "resources2__VGPU": "2"}, 1),
        # Enough for each, and in all, but not together.
        ((3, 1), {"resources1__VGPU": "2", "resources2__VGPU": "2"}, 0),
    ],
)
def test_groups_that_share_devices_end_no_mix(free, asked, servers):
    host = builders.host(
        "a",
        [
            builders.device("a", bus, 0, number, "VGPU")
            for bus, number in enumerate(free, 1)
        ],
    )
    host = _fast_only_first(host)
    assert capacity.count_mix([host], [wanted(devices=None, **asked)]) == [
        servers
    ]


@pytest.mark.parametrize("devices", ["h100:1,fast:1", "fast:1,h100:1"])
def test_aliases_that_share_devices_end_no_mix(devices):
    """The alias with less choice has its device first, whatever the order."""
    host = builders.host("a", [builders.device("a", bus) for bus in (1, 2)])
    host = _fast_only_first(host)
    assert capacity.count_mix([host], [wanted(devices)]) == [1]


def _fast_only_first(host):
    first, *others = host.devices
    first = dataclasses.replace(first, traits=frozenset({FAST}))
    return dataclasses.replace(host, devices=(first, *others))
