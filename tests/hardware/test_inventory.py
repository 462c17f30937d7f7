# SPDX-License-Identifier: Apache-2.0

"""What nova-gpu-host finds on a real kernel, against the description."""

import itertools
import json
import subprocess
import sys

from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import links


def test_lists_the_devices_that_are_plugged_and_no_others(facts):
    found = {name: entry["kind"] for name, entry in facts.entries.items()}
    with_gpu = {
        one.name
        for card in facts.machine.cards
        if any(function.model.kind == "gpu" for function in card.functions)
        for one in card.functions
    }
    assert found == {
        one.name: one.model.kind or "function"
        for one in facts.machine.devices
        if one.model.kind or one.name in with_gpu
    }
    assert len(facts.inventory["devices"]) == len(found)


def test_tells_ids_class_and_large_bars(facts):
    for device in facts.machine.linked:
        entry = facts.entries[device.name]
        assert (
            f"{entry['vendor_id']}:{entry['product_id']}" == device.model.ids
        )
        assert entry["class"] == f"{device.model.class_code:04x}00"
        if device.model.bar:
            (large,) = [bar for bar in entry["bars"] if bar["index"] == 2]
            assert large["size"] == device.model.bar
            assert large["64bit"]
            assert large["prefetchable"]


def test_tells_the_numa_node_of_every_device(facts):
    several = facts.machine.nodes > 1
    assert facts.inventory["numa_nodes"] == [*range(facts.machine.nodes)]
    assert {
        name: entry["numa_node"] for name, entry in facts.entries.items()
    } == {
        one.name: one.node if several else None
        for one in facts.machine.devices
        if one.name in facts.entries
    }


def test_tells_the_link_of_every_two_devices(facts):
    names = [one.name for one in facts.machine.linked]
    found = {
        (one, other): facts.entries[one]["relations"][facts.addresses[other]]
        for one, other in itertools.permutations(names, 2)
    }
    assert found == {
        (one, other): facts.machine.link(one, other)
        for one, other in itertools.permutations(names, 2)
    }


def test_tells_the_driver_of_every_device(facts):
    assert {
        name: entry["driver"] for name, entry in facts.entries.items()
    } == {
        one.name: one.model.driver
        for one in facts.machine.devices
        if one.name in facts.entries
    }


def test_tells_who_shares_an_iommu_group(facts):
    if not facts.machine.has_groups:
        assert facts.members == []
        assert {entry["iommu_group"] for entry in facts.entries.values()} == {
            None
        }
        return
    assert sorted(map(sorted, facts.members)) == sorted(
        map(
            sorted,
            {facts.machine.group(name) for name in facts.entries},
        )
    )


def test_capture_gives_the_same_inventory_elsewhere(facts):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nova_gpu_filter.cmd.host"),
            *("inventory", "-f", "json"),
            *("--sysfs-root", str(facts.capture), "--pci-ids", "/dev/stdin"),
        ],
        # A database without names, as the machine has none.
        input="0000  None\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    found["names_from"] = facts.inventory["names_from"]
    assert found == facts.inventory


def test_config_offers_every_gpu_but_the_console_with_its_links(facts):
    specs = {}
    for line in facts.config["compute"].splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == "device_spec":
            spec = json.loads(value)
            specs[facts.names[spec["address"]]] = spec
    offered = [
        one.name
        for one in facts.machine.gpus
        if one.name != facts.machine.console
    ]
    assert [*specs] == offered
    # As the scheduler reads them, which knows of NUMA nodes also by itself.
    topology = host_topologies.build_from_pools(
        [
            (
                specs[name]["address"],
                specs[name].get("gpu_links"),
                facts.entries[name]["numa_node"],
            )
            for name in offered
        ]
    )
    for (a, one), (b, other) in itertools.combinations(enumerate(offered), 2):
        found = links.name(topology.links[a][b])
        assert found == facts.machine.link(one, other), (one, other)
