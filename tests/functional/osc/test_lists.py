# SPDX-License-Identifier: Apache-2.0

"""openstack gpu device, openstack gpu host: on a real Placement."""

import json

import pytest

from nova_gpu_filter.fleet import compute
from tests.functional.osc import shell
from tests.functional.osc import worlds
from tests.functional.placement import service

DEVICE = "hgx-1_0000:1B:00.0"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("device-list.txt", "gpu device list"),
        ("device-list-host.txt", "gpu device list --host hgx-1"),
        ("device-list-long.txt", "gpu device list --long"),
        ("device-list-long.json", "gpu device list --long -f json"),
        ("device-show.txt", f"gpu device show {DEVICE}"),
        ("device-show.json", f"gpu device show {DEVICE} -f json"),
        ("host-list.txt", "gpu host list"),
        ("host-list.json", "gpu host list -f json"),
        ("host-show.txt", "gpu host show hgx-1"),
        ("host-show-nics.txt", "gpu host show pix-1"),
    ],
)
def test_output_is_as_it_was_reviewed(small_cloud, golden, name, arguments):
    result = small_cloud.run(*arguments.split())
    assert (result.code, result.err) == (0, "")
    golden(name, result.out)


def test_of_a_large_cloud_each_server_is_asked_once(
    small_cloud, golden, monkeypatch
):
    placement = small_cloud.adapters.placement
    monkeypatch.setattr(compute, "PAGE", 1)
    placement.asked.clear()
    result = small_cloud.run("gpu", "device", "list", "--long", "-f", "json")
    golden("device-list-long.json", result.out)
    assert len(
        [path for path in placement.asked if "allocations" in path]
    ) == (len(worlds.SERVERS))


def test_a_long_list_fits_a_terminal(small_cloud):
    """Unbroken where it is not narrow; else each column keeps 8 characters,
    which is the least that cliff gives."""
    whole = small_cloud.run("gpu", "device", "list", "--long").out
    assert len(whole.splitlines()[0]) <= 144
    wide = small_cloud.run("gpu", "device", "list", "--long", *_fit(144)).out
    assert wide == whole
    narrow = small_cloud.run("gpu", "device", "list", "--long", *_fit(110))
    assert len(narrow.out.splitlines()[0]) <= 110


def _fit(columns):
    return "--max-width", str(columns)


def test_a_project_without_a_name_is_whole_for_programs(small_cloud):
    asked = ("gpu", "device", "list", "--server", "train-2", "-c", "Project")
    assert "| 6f70656e |" in small_cloud.run(*asked).out
    whole = small_cloud.run(*asked, "-f", "value").out
    assert whole == f"{shell.PROJECT}\n"


def _addresses(small_cloud, *arguments):
    result = small_cloud.run(
        *("gpu", "device", "list", *arguments),
        *("-f", "value", "-c", "Host", "-c", "Address"),
    )
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def test_devices_of_a_server(small_cloud):
    assert _addresses(small_cloud, "--server", "train-1") == [
        "hgx-1 0000:1b:00.0",
        "hgx-1 0000:43:00.0",
    ]
    uuid = worlds.consumer("train-2")
    assert _addresses(small_cloud, "--server", uuid) == ["hgx-1 0000:9d:00.0"]


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("L40S", 8),
        ("gpu_l40s", 8),
        ("CUSTOM_GPU_L40S", 8),
        ("10de:11bf", 2),
    ],
)
def test_devices_of_a_model(small_cloud, model, number):
    assert len(_addresses(small_cloud, "--model", model)) == number


def test_free_devices(small_cloud):
    everything = _addresses(small_cloud)
    free = _addresses(small_cloud, "--free")
    used = {f"hgx-1 0000:{bus}:00.0" for bus in ("1b", "43", "9d")}
    used |= {f"hgx-2 0000:{bus}:00.0" for bus in ("1b", "43", "52", "61")}
    used |= {"pix-1 0000:10:00.0", "pix-1 0000:11:00.0"}
    # Nobody has these, but nova-compute of their host is disabled.
    used |= {"plain-1 0000:85:00.0", "plain-1 0000:86:00.0"}
    assert set(everything) - set(free) == used


def test_hosts_of_a_model(small_cloud):
    result = small_cloud.run(
        *("gpu", "host", "list", "--model", "l40s", "-f", "json")
    )
    assert [row["Host"] for row in json.loads(result.out)] == ["pix-1"]


@pytest.mark.parametrize(
    "name", [service.provider_uuid(DEVICE), DEVICE, DEVICE.lower()]
)
def test_a_device_is_named_by_uuid_or_by_host_and_address(small_cloud, name):
    result = small_cloud.run("gpu", "device", "show", name, "-f", "json")
    assert json.loads(result.out)["address"] == "0000:1b:00.0"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "gpu device show 0000:1b:00.0",
            "no device '0000:1b:00.0'; did you mean pix-1_0000:1b:00.0 or"
            " hgx-2_0000:1b:00.0 or hgx-1_0000:1b:00.0?",
        ),
        (
            "gpu device show hgx-1_0000:aa:00.0",
            "no device 'hgx-1_0000:aa:00.0'; did you mean hgx-1_0000:df:00.0"
            " or hgx-1_0000:d1:00.0 or hgx-1_0000:c3:00.0?",
        ),
        (
            "gpu device list --host nowhere",
            "no host 'nowhere'; known: hgx-1, hgx-2, pix-1, plain-1",
        ),
        ("gpu host show hgx1", "no host 'hgx1'; did you mean hgx-1 or hgx-2?"),
        (
            "gpu device list --server nobody",
            "no server 'nobody'; known: render, train-1, train-2, train-3",
        ),
        *(
            (
                f"gpu {what} list --model h100",
                "no model or resource class 'h100'; known: 10de:11bf"
                " (CUSTOM_PCI_10DE_11BF), GPU_H100 (CUSTOM_GPU_H100), L40S"
                " (CUSTOM_GPU_L40S), NIC_CONNECTX_7 (CUSTOM_NIC_CONNECTX_7)",
            )
            for what in ("host", "device")
        ),
        (
            "gpu host show nowhere",
            "no host 'nowhere'; known: hgx-1, hgx-2, pix-1, plain-1",
        ),
    ],
)
def test_what_is_not_there_is_one_line(small_cloud, arguments, line):
    result = small_cloud.run(*arguments.split())
    assert (result.code, result.out, result.err) == (1, "", f"{line}\n")
