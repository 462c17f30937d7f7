# SPDX-License-Identifier: Apache-2.0

"""The same steps with Nova's filter and with ours: the same results."""

import pytest

from demo import chapter_2016
from demo import chapter_h100
from demo import cloud as embedded
from demo import cloud_reader
from demo import fake_machines

OURS = "GpuPciPassthroughFilter"
STOCKS = "PciPassthroughFilter"

# What is done, in order: boot a server with so many GPUs, or delete it.
K2_STEPS = [
    ("boot", "a", 1),
    ("boot", "b", 1),
    ("boot", "refused", 1),
    ("delete", "a", 0),
    ("boot", "c", 1),
]
H100_STEPS = [
    ("boot", "a", 4),
    ("boot", "b", 2),
    ("boot", "refused", 4),
    ("boot", "c", 2),
    ("boot", "refused too", 1),
    ("delete", "a", 0),
    ("boot", "d", 4),
]


def _results(cloud, flavors, steps):
    """Do the steps; return what each came to, and the servers."""
    servers = {}
    results = []
    for action, name, gpus in steps:
        if action == "delete":
            cloud.delete(servers.pop(name))
        else:
            servers[name] = cloud.boot(name, flavors[gpus])
            results.append(
                (
                    name,
                    servers[name].status,
                    servers[name].host,
                    len(cloud.list_devices(servers[name])),
                )
            )
        free = sum(
            sum(p["count"] for p in cloud.pools(h)) for h in cloud.hosts
        )
        results.append((action, name, free))
    return results, servers


@pytest.fixture
def conf_with(edited_conf):
    """Return a function that puts a filter in the place of ours."""

    def conf(name, filter_name):
        return edited_conf(name, (f",{OURS}\n", f",{filter_name}\n"))

    return conf


def _on_k2(conf):
    with embedded.EmbeddedCloud(conf) as cloud:
        cloud.add_compute("k2-host", fake_machines.grid_k2())
        cloud.add_compute("plain-host", fake_machines.build_plain_host())
        cloud.create_flavor("one", {"pci_passthrough:alias": "a1:1"})
        results, servers = _results(cloud, {1: "one"}, K2_STEPS)
        # Without Placement nothing is left to chance, not even the device.
        devices = {
            name: cloud_reader.addresses(cloud.list_devices(server))
            for name, server in servers.items()
        }
    return results, devices


def _on_h100(conf):
    with embedded.EmbeddedCloud(conf) as cloud:
        cloud.add_compute("hgx-1", fake_machines.hgx_h100())
        for gpus in chapter_h100.SIZES:
            cloud.create_flavor(
                chapter_h100.flavor(gpus),
                {"pci_passthrough:alias": f"h100:{gpus}"},
            )
        flavors = {gpus: chapter_h100.flavor(gpus) for gpus in (1, 2, 4)}
        results, _ = _results(cloud, flavors, H100_STEPS)
    return results


def test_without_pci_in_placement_down_to_the_device(conf_with):
    results = [
        _on_k2(conf_with(chapter_2016.CONF, name)) for name in (STOCKS, OURS)
    ]
    assert results[0] == results[1]


def test_with_pci_in_placement(conf_with):
    results = [
        _on_h100(conf_with(chapter_h100.CONF, name)) for name in (STOCKS, OURS)
    ]
    assert results[0] == results[1]
