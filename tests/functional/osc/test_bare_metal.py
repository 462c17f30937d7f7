# SPDX-License-Identifier: Apache-2.0

"""Nodes of Ironic with GPUs, as its driver reports them to Placement."""

import json
import types
import uuid

import pytest

from tests.functional.fleet import adapters
from tests.functional.osc import shell
from tests.functional.placement import service

CLASS = "CUSTOM_BAREMETAL_H100_8"
OTHER = "CUSTOM_BAREMETAL_L40S_2"
MODEL = "CUSTOM_GPU_MODEL_H100_SXM5_80GB"
TRAITS = (MODEL, "CUSTOM_GPU_FABRIC_0_8")
SERVICE = "ironic-compute-1"


def name(number):
    """The name of the provider of a node: the UUID of the node."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"node-{number}"))


FREE, BUSY, CLEANING, PLAIN, SINGLE = map(name, range(5))


def node(number, resource_class=CLASS, traits=TRAITS, reserved=0):
    """A node as update_provider_tree of nova/virt/ironic/driver.py has it."""
    return service.Provider(
        name(number),
        inventories={resource_class: service.Inventory(1, reserved=reserved)},
        traits=traits,
    )


def hypervisor(host):
    """A host of libvirt with one GPU."""
    yield service.Provider(
        host,
        inventories={
            "VCPU": service.Inventory(8),
            "MEMORY_MB": service.Inventory(1024),
        },
    )
    yield service.Provider(
        f"{host}_0000:1B:00.0",
        host,
        {"CUSTOM_GPU_H100": service.Inventory(1)},
        (MODEL,),
    )


@pytest.fixture(scope="module")
def placement():
    with service.Placement() as running:
        for trait in (*TRAITS, "CUSTOM_GPU_MODEL_L40S", "CUSTOM_FAST"):
            running.create_trait(trait)
        yield running


NODES = (
    node(0),
    node(1),
    node(2, reserved=1),
    # No GPU, or nothing that says so.
    node(3, "CUSTOM_BAREMETAL_PLAIN", ("CUSTOM_FAST",)),
    node(4, OTHER, ("CUSTOM_GPU_MODEL_L40S", "HW_GPU_API_VULKAN")),
)


def start(placement, *providers):
    """A cloud with these providers; a server has the second node."""
    placement.replace_providers(providers)
    server = "nobody"
    if any(provider.name == BUSY for provider in providers):
        busy = service.provider_uuid(BUSY)
        server = placement.allocate(
            {
                "allocations": {busy: {"resources": {CLASS: 1}}},
                "mappings": {"": [busy]},
            }
        )
        # Nova reserves what is in use, so that it is cleaned first.
        path = f"/resource_providers/{busy}/inventories"
        answer = placement.stock(path).json
        answer["inventories"][CLASS]["reserved"] = 1
        assert placement.stock(path, method="PUT", body=answer).status == 200
    nova = adapters.Nova(
        [
            {
                "id": server,
                "name": "train",
                "tenant_id": shell.PROJECT,
                "status": "ACTIVE",
                "OS-EXT-SRV-ATTR:hypervisor_hostname": BUSY,
                "flavor": {
                    "original_name": "bm.h100",
                    "vcpus": 96,
                    "ram": 1 << 20,
                    "disk": 100,
                    "ephemeral": 0,
                    "swap": 0,
                    "extra_specs": {
                        f"resources:{CLASS}": "1",
                        "resources:VCPU": "0",
                        "resources:MEMORY_MB": "0",
                        "resources:DISK_GB": "0",
                        f"trait:{MODEL}": "required",
                    },
                },
            }
        ],
    ).add_services([SERVICE, "gpu-1"])
    nova.service_of = {
        service.provider_uuid(name(number)): SERVICE for number in range(5)
    }
    found = adapters.PlacementAdapter(placement)
    return shell.Shell(types.SimpleNamespace(placement=found, compute=nova))


@pytest.fixture
def cloud(placement):
    return start(placement, *NODES, *hypervisor("gpu-1"))


def run(commands, *arguments):
    result = commands.run("gpu", *arguments, "-f", "json")
    assert (result.code, result.err) == (0, ""), result.err
    return json.loads(result.out)


def test_nodes_are_listed_beside_hosts(cloud):
    rows = {row["Host"]: row for row in run(cloud, "host", "list")}
    assert list(rows) == ["gpu-1", *sorted((FREE, BUSY, CLEANING, SINGLE))]
    counts = ("Total", "Free", "Used", "Reserved", "Unavailable")
    assert {
        name: tuple(rows[name][key] for key in ("Model", *counts))
        for name in (FREE, BUSY, CLEANING, SINGLE)
    } == {
        FREE: ("H100 SXM5 80GB", 1, 1, 0, 0, 0),
        BUSY: ("H100 SXM5 80GB", 1, 0, 1, 0, 0),
        CLEANING: ("H100 SXM5 80GB", 1, 0, 0, 1, 0),
        SINGLE: ("L40S", 1, 1, 0, 0, 0),
    }
    assert {row["Status"] for row in rows.values()} == {"enabled"}
    found = run(cloud, "host", "list", "--model", CLASS)
    assert {row["Host"] for row in found} == {FREE, BUSY, CLEANING}


def test_a_node_is_shown_with_class_traits_and_server(cloud):
    shown = run(cloud, "host", "show", BUSY)
    assert shown["resource_class"] == [CLASS]
    assert shown["traits"] == sorted(TRAITS)
    assert shown["servers"] == {"train": 1}
    assert shown["baremetal_h100_8_used"] == 1
    assert "resource_class" not in run(cloud, "host", "show", "gpu-1")


def test_a_node_of_a_service_that_is_down_is_unavailable(cloud):
    (service_,) = [
        one
        for one in cloud.adapters.compute.services
        if one["host"] == SERVICE
    ]
    service_["state"] = "down"
    (row,) = [
        row for row in run(cloud, "host", "list") if row["Host"] == SINGLE
    ]
    assert (row["Status"], row["Free"], row["Unavailable"]) == ("down", 0, 1)


def test_a_cloud_of_nodes_alone_is_listed(placement):
    rows = run(start(placement, *NODES), "host", "list")
    assert {row["Host"] for row in rows} == {FREE, BUSY, CLEANING, SINGLE}


@pytest.mark.parametrize("found", [(), NODES[3:4]])
def test_without_a_gpu_it_is_told(placement, found):
    commands = start(placement, *found)
    result = commands.run("gpu", "host", "list")
    assert result.code == 1
    assert "Placement has no PCI devices" in result.err
    result = commands.run("gpu", "host", "show", PLAIN)
    assert result.code == 1


def test_devices_of_hosts_are_those_of_hosts_alone(cloud):
    """A node has no PCI device that Nova could give away."""
    assert [row["Host"] for row in run(cloud, "device", "list")] == ["gpu-1"]


def test_free_nodes_of_a_class_cost_one_question(placement):
    nodes = [node(number) for number in range(100, 140)]
    commands = start(placement, *nodes)
    asked = commands.adapters.placement.asked
    asked.clear()
    assert len(run(commands, "host", "list")) == 40
    assert len([path for path in asked if path.count("/") > 1]) <= 24
