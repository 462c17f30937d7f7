# SPDX-License-Identifier: Apache-2.0

"""Mediated devices of a real kernel: we offer them, Nova and libvirt use them.

Their driver is nvidia_vgpu_vfio.c.
"""

import json
import re

from lxml import etree
import pytest

from tests.hardware import emulated_machines
from tests.hardware import facts as facts_lib
from tests.hardware import kernel_modules
from tests.hardware import nova_scripts

_CLASS = "CUSTOM_VGPU_T4_8Q"
_SMALL, _LARGE = "nvidia-35", "nvidia-36"
_NAMES = {_SMALL: "GRID T4-2B", _LARGE: "GRID T4-8Q"}
_FRAGMENT = "/etc/nova/gpu.conf"


@pytest.fixture(scope="module")
def host(boot, parts):
    """A machine with two GPUs, whose driver makes mediated devices."""
    if parts.no_mediated_devices:
        pytest.skip(parts.no_mediated_devices)
    nova_scripts.skip_without_libvirt(parts)
    guest = boot(emulated_machines.MEDIATED)
    guest.shell(f"modprobe {kernel_modules.MEDIATED}")
    return guest


@pytest.fixture(scope="module")
def gpus(host):
    """Where the GPUs are."""
    addresses = facts_lib.addresses(host)
    return addresses["gpu0"], addresses["gpu1"]


def _read_available(inventory):
    """Tell how many of each type an inventory says can be made."""
    return {
        device["address"]: {
            one["type"]: one["available"] for one in device["mdev_types"]
        }
        for device in inventory["devices"]
        if device["mdev_types"]
    }


def _check(host, *arguments):
    answer = host.host("check", "-f", "json", *arguments)
    assert answer.code != 3, answer.err
    return json.loads(answer.out)


@pytest.fixture(scope="module")
def seen(host, gpus):
    """Offer what the GPUs can be divided into, and have Nova use it."""
    small, large = gpus
    nova_scripts.write_conf(host)
    answer = host.host("inventory", "-f", "json")
    assert answer.code == 0, answer.err
    types = (
        *("--mdev-type", f"{_SMALL}={small}"),
        *("--mdev-type", f"{_NAMES[_LARGE]}={large}"),
        *("--mdev-class", f"{_LARGE}={_CLASS}"),
    )
    assert host.host("config", *types, "--write", _FRAGMENT).code == 0
    providers = host.host(
        "config", *types, "--provider-config", host.machine.name
    )
    assert providers.code == 0, providers.err
    etc = host.state / "etc" / "nova"
    (etc / "provider_config" / "vgpu.yaml").write_text(providers.out)
    host.shell("start-libvirt")
    told = nova_scripts.run(
        host, "nova_mdevs", f"{small}=VGPU", f"{large}={_CLASS}"
    )
    return {"at_first": json.loads(answer.out), **told}


def _providers(gpus):
    """Say what Nova must report."""
    small, large = (
        f"{emulated_machines.MEDIATED.name}_pci_{re.sub('[:.]', '_', one)}"
        for one in gpus
    )
    return {
        small: {
            "totals": {"VGPU": 8},
            "traits": ["CUSTOM_VGPU_TYPE_GRID_T4_2B"],
        },
        large: {
            "totals": {_CLASS: 2},
            "traits": ["CUSTOM_VGPU_TYPE_GRID_T4_8Q"],
        },
    }


def test_the_inventory_has_what_the_driver_offers(seen, gpus):
    assert _read_available(seen["at_first"]) == {
        gpu: {_SMALL: 8, _LARGE: 2} for gpu in gpus
    }
    names = {
        one["type"]: one["name"]
        for device in seen["at_first"]["devices"]
        for one in device["mdev_types"]
    }
    assert names == _NAMES


def test_nova_reports_each_type_on_the_provider_of_its_gpu(seen, gpus):
    assert seen["before"] == _providers(gpus)


def test_a_server_gets_one_of_the_gpu_of_its_allocation(seen, gpus):
    for server, gpu, type_id in zip(
        seen["servers"], gpus, (_SMALL, _LARGE), strict=True
    ):
        (mdev,) = server["mdevs"]
        assert seen["made"][mdev] == [gpu, type_id]
        for xml in (server["xml"], server["live_xml"]):
            (device,) = etree.fromstring(xml).iter("hostdev")
            assert device.get("type") == "mdev"
            assert device.get("model") == "vfio-pci"
            assert device.find("source/address").get("uuid") == mdev
        assert "device 10de:1eb8 class 0302" in server["console"]
    assert len(seen["made"]) == 2


def test_what_is_in_use_counts(seen, gpus):
    small, large = gpus
    assert seen["during"] == _providers(gpus)
    # Of one type alone, as the driver says once there is one.
    assert _read_available(seen["inventory"]) == {
        small: {_SMALL: 7, _LARGE: 0},
        large: {_SMALL: 0, _LARGE: 1},
    }


def test_more_than_there_are_is_refused(seen, gpus):
    assert "mdev-capable resource is not available" in seen["refusal"]
    assert seen["full"] == _providers(gpus)
    made = sorted(seen["full_made"].values())
    assert made == [[gpus[0], _SMALL], *([[gpus[1], _LARGE]] * 2)]


def test_they_stay_for_the_next_server(seen, gpus):
    assert seen["domains"] == []
    assert seen["after"] == _providers(gpus)
    assert seen["again"] == seen["servers"][0]["mdevs"]
    assert seen["after_made"] == seen["full_made"]


def test_what_was_written_is_right_also_when_a_gpu_is_full(host, seen):
    found = _check(host, "--nova-conf", _FRAGMENT)
    assert [
        row["Finding"]
        for row in found
        if row["Severity"] in ("ERROR", "WARNING")
        and row["Check"] == "nova-conf"
    ] == []


def test_a_type_for_which_a_gpu_has_no_room_is_found(host, seen, gpus):
    small, _ = gpus
    (mdev,) = seen["servers"][0]["mdevs"]
    (host.state / "etc" / "nova" / "other.conf").write_text(
        f"[devices]\nenabled_mdev_types = {_LARGE}\n"
        f"[mdev_{_LARGE}]\ndevice_addresses = {small}\n"
    )
    (found,) = (
        row
        for row in _check(host, "--nova-conf", "/etc/nova/other.conf")
        if "can have no more" in row["Finding"]
    )
    assert _SMALL in found["Finding"]
    # The cure works, and only then.
    for command in found["Cure"]:
        assert mdev.replace("-", "_") in command
        host.shell(command)
    assert not [
        row
        for row in _check(host, "--nova-conf", "/etc/nova/other.conf")
        if "can have no more" in row["Finding"]
    ]
