# SPDX-License-Identifier: Apache-2.0

"""What keeps a server from moving, whatever is free elsewhere."""

import dataclasses
import importlib.util
import pathlib

import pytest

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import moving
from nova_gpu_filter.nova_rules import alias
from tests.unit.fleet import builders

LIVE, COLD = moving.Way.LIVE, moving.Way.COLD
NOT_LIVE = (
    "alias h100 does not ask for devices that are live_migratable",
    "with a cold migration",
)


def _gates(
    way,
    status="ACTIVE",
    live_migratable=None,
    source=None,
    image=(),
    **specs,
):
    named = alias.Alias("h100", builders.H100, live_migratable=live_migratable)
    flavor = model.Flavor(
        "f",
        1,
        1,
        1,
        {
            "pci_passthrough:alias": "h100:1",
            **{key.replace("__", ":"): value for key, value in specs.items()},
        },
    )
    server = model.Server(
        *("u", "train", "p", status, "hgx-1", flavor),
        image_properties=dict(image),
    )
    wanted = demand.calculate(flavor, {"h100": named}, "")
    found = moving.find_gates(moving.Move(server, wanted, way, source))
    return [(gate.reason, gate.cure) for gate in found]


@pytest.mark.parametrize(
    ("way", "live_migratable", "expected"),
    [
        (COLD, None, []),
        (COLD, False, []),
        (LIVE, True, []),
        (LIVE, False, [NOT_LIVE]),
        (LIVE, None, [NOT_LIVE]),
    ],
)
def test_only_devices_that_can_be_moved_are_moved_live(
    way, live_migratable, expected
):
    assert _gates(way, live_migratable=live_migratable) == expected


@pytest.mark.parametrize(
    ("way", "status", "is_refused"),
    [
        (LIVE, "ACTIVE", False),
        (LIVE, "PAUSED", False),
        (LIVE, "SHUTOFF", True),
        (LIVE, "VERIFY_RESIZE", True),
        (COLD, "ACTIVE", False),
        (COLD, "SHUTOFF", False),
        (COLD, "PAUSED", True),
        (COLD, "ERROR", True),
    ],
)
def test_a_server_moves_in_some_states_only(way, status, is_refused):
    found = _gates(way, status, True)
    assert bool(found) is is_refused
    assert all(status in reason for reason, _ in found)


@pytest.mark.parametrize("way", moving.Way)
def test_from_a_host_that_is_down_it_is_evacuated(way):
    down = builders.machine("hgx-1").with_service(
        model.ComputeService("hgx-1", "nova", (model.Obstacle.DOWN,))
    )
    assert _gates(way, live_migratable=True, source=down) == [
        (
            "nova-compute of hgx-1, where it is, is down",
            "with an evacuation (openstack --os-compute-api-version 2.94"
            " server evacuate)",
        )
    ]
    disabled = down.with_service(
        model.ComputeService("hgx-1", "nova", (model.Obstacle.DISABLED,))
    )
    assert _gates(way, live_migratable=True, source=disabled) == []


@pytest.mark.parametrize(("value", "is_refused"), [("true", 1), ("no", 0)])
def test_encrypted_memory_stays(value, is_refused):
    found = _gates(LIVE, live_migratable=True, hw__mem_encryption=value)
    assert len(found) == is_refused
    image = {"hw_mem_encryption": value}
    found = _gates(LIVE, live_migratable=True, image=image)
    assert len(found) == is_refused


@pytest.mark.parametrize(
    ("specs", "image", "is_refused"),
    [
        ({"hw__tpm_version": "2.0"}, {}, True),
        ({}, {"hw_tpm_version": "2.0"}, True),
        ({"hw__tpm_secret_security": "deployment"}, {}, False),
        (
            {"hw__tpm_version": "2.0", "hw__tpm_secret_security": "user"},
            {},
            True,
        ),
        (
            {"hw__tpm_secret_security": "host"},
            {"hw_tpm_version": "1.2"},
            False,
        ),
    ],
)
def test_a_virtual_tpm_stays_unless_the_host_has_its_secret(
    specs, image, is_refused
):
    found = _gates(LIVE, live_migratable=True, image=image, **specs)
    assert len(found) == is_refused
    assert _gates(COLD, image=image, **specs) == []


@pytest.mark.parametrize("way", moving.Way)
def test_devices_of_cyborg_stay(way):
    found = _gates(way, live_migratable=True, accel__device_profile="a40")
    assert found == [
        (
            "Nova moves no server with devices of Cyborg"
            " (accel:device_profile = a40)",
            "with a new server there",
        )
    ]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ({}, None),
        ({"pci_passthrough:alias": "h100:1"}, ["live_migratable"]),
        ({"resources:VGPU": "1"}, ["8.6.0", "8.1.0", "enabled_mdev_types"]),
        ({"resources1:CUSTOM_A40_8Q": "1"}, ["8.6.0", "enabled_mdev_types"]),
        ({"resources1:CUSTOM_OTHER": "1"}, None),
        (
            {"pci_passthrough:alias": "h100:1", "resources:VGPU": "1"},
            ["live_migratable", "enabled_mdev_types"],
        ),
    ],
)
def test_what_no_api_tells_is_said(specs, words):
    named = alias.Alias("h100", builders.H100)
    flavor = model.Flavor("f", 1, 1, 1, specs)
    server = model.Server("u", "train", "p", "ACTIVE", "hgx-1", flavor)
    wanted = demand.calculate(flavor, {"h100": named}, "")
    source = builders.host(
        "hgx-1",
        [
            dataclasses.replace(
                builders.device("hgx-1", 1, resource_class="CUSTOM_A40_8Q"),
                is_mediated=True,
            )
        ],
    )
    live, cold = (
        moving.describe_limits(moving.Move(server, wanted, way, source))
        for way in (LIVE, COLD)
    )
    assert bool(live) is bool(cold) is (words is not None)
    for word in words or ():
        assert word in live
        assert word not in cold


def test_the_versions_are_those_of_nova():
    source = pathlib.Path(
        importlib.util.find_spec("nova").submodule_search_locations[0],
        "virt",
        "libvirt",
        "driver.py",
    ).read_text()
    assert "MIN_MDEV_LIVEMIG_LIBVIRT_VERSION = (8, 6, 0)" in source
    assert "MIN_MDEV_LIVEMIG_QEMU_VERSION = (8, 1, 0)" in source
