# SPDX-License-Identifier: Apache-2.0

"""Which partition a guest's GPUs are, with Module Ids in another order."""

import dataclasses
import json

import pytest

from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent.fabric import partition_of_guest
from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import fabric_output
from nova_gpu_filter.host.links import host_links
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import inventory_json
from nova_gpu_filter.nova_rules import pci_options
from tests.unit.agent.fabric import managers

HGX = {
    id_: frozenset(managers.ADDRESSES[module] for module in modules)
    for id_, modules in managers.HGX_H100.items()
}


def options(**tags):
    return pci_options.PciOptions(
        "nova.conf",
        tuple(
            json.dumps({"address": address, "gpu_links": tag})
            for address, tag in tags.items()
        ),
        (),
        True,
    )


def test_partitions_are_read_from_the_tags_of_device_specs():
    tags = {
        address: ",".join(
            f"fabric:{id_}/{len(devices)}"
            for id_, devices in HGX.items()
            if address in devices
        )
        for address in managers.ADDRESSES.values()
    }
    assert partition_of_guest.read_tags(options(**tags)) == HGX


def test_a_partition_whose_gpus_are_not_all_for_guests_is_left_out():
    found = partition_of_guest.read_tags(
        options(**{"0000:86:00.0": "nv18:0,fabric:3/2,fabric:7/1"})
    )
    assert found == {7: frozenset({"0000:86:00.0"})}


def test_a_tag_that_cannot_be_read_is_named_with_its_device():
    with pytest.raises(errors.AgentError, match=r"nova\.conf: 0000:86:00\.0"):
        partition_of_guest.read_tags(options(**{"0000:86:00.0": "fabric:x"}))


@pytest.mark.parametrize(
    ("modules", "partition"),
    [
        ((1, 3), 3),
        ((6, 8), 6),
        ((5, 6, 7, 8), 2),
        ((4,), 10),
        (tuple(range(1, 9)), 0),
    ],
)
def test_the_partition_is_that_with_exactly_these_gpus(modules, partition):
    devices = {managers.ADDRESSES[one] for one in modules}
    # A network card is in no partition.
    assert (
        partition_of_guest.choose(HGX, devices | {"0000:18:00.1"}) == partition
    )


def test_a_guest_without_gpus_of_the_fabric_has_no_partition():
    assert partition_of_guest.choose(HGX, {"0000:18:00.1"}) is None
    assert partition_of_guest.choose({}, {"0000:86:00.0"}) is None


def test_gpus_that_are_no_partition_are_refused_with_a_cure():
    # Neighbours on the PCI bus, and not in the fabric.
    with pytest.raises(partition_of_guest.NoPartition) as caught:
        partition_of_guest.choose(HGX, {"0000:10:00.0", "0000:41:00.0"})
    assert str(caught.value) == (
        "0000:10:00.0 0000:41:00.0 are no fabric partition together, so that"
        " they cannot have NVLinks; partitions of them are 12"
        " (0000:41:00.0), 13 (0000:10:00.0). Give the flavor gpu:link=fabric"
    )


def listed(*members):
    return [
        fabric_output.ListedPartition(
            3, False, tuple(fabric_output.Member.read(*one) for one in members)
        )
    ]


def test_what_fabric_manager_knows_must_be_the_same():
    devices = {"0000:86:00.0", "0000:87:00.0"}
    partition_of_guest.check(3, devices, listed((1, ""), (3, "")))
    partition_of_guest.check(
        3, devices, listed((1, "00000000:86:00.0"), (3, ""))
    )
    with pytest.raises(
        partition_of_guest.OtherPartition, match=r"0000:b8:00\.0"
    ):
        partition_of_guest.check(
            3, devices, listed((1, "0000:b8:00.0"), (3, ""))
        )
    with pytest.raises(partition_of_guest.OtherPartition, match="1 GPUs"):
        partition_of_guest.check(3, devices, listed((1, "")))
    with pytest.raises(partition_of_guest.OtherPartition, match="not listed"):
        partition_of_guest.check(4, devices, listed((1, ""), (3, "")))
    # A list that contradicts itself is not searched for what fits.
    twice = listed((1, "0000:b8:00.0"), (3, "")) + listed((1, ""), (3, ""))
    with pytest.raises(
        partition_of_guest.OtherPartition, match=r"0000:b8:00\.0"
    ):
        partition_of_guest.check(3, devices, twice)


def test_partitions_are_read_from_a_saved_inventory(tmp_path):
    addresses = (PciAddress(0, 0x86, 0, 0), PciAddress(0, 0x87, 0, 0))
    host = inventory.Inventory(
        hostname="hgx-1",
        functions=tuple(
            inventory.Function(
                address, inventory.Kind.GPU, 0x030200, 0x10DE, 0x2330
            )
            for address in addresses
        ),
    )
    links = linking.join(host)
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps(inventory_json.write(host, links)))
    with pytest.raises(errors.AgentError, match="has no fabric partitions"):
        partition_of_guest.read_inventory(str(path))
    links = dataclasses.replace(
        links,
        partitions=(host_links.Partition(3, addresses, (1, 3), False),),
    )
    path.write_text(json.dumps(inventory_json.write(host, links)))
    assert partition_of_guest.read_inventory(str(path)) == {
        3: frozenset({"0000:86:00.0", "0000:87:00.0"})
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory"),
        (b"", "JSON"),
        (b"{}", "nova-gpu-host inventory"),
        (b"\xff\xfe", "utf-8"),
    ],
)
def test_an_inventory_that_is_none_is_named_with_its_option(
    tmp_path, text, words
):
    path = tmp_path / "inventory.json"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(errors.AgentError) as caught:
        partition_of_guest.read_inventory(str(path))
    message = str(caught.value)
    assert message.startswith(f"[gpu_agent]fabric_inventory = {path}: ")
    assert words in message
    assert "\n" not in message
