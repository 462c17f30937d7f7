# SPDX-License-Identifier: Apache-2.0

"""The fake driver of the DevStack plugin under Nova's own services."""

import pathlib
import sys
from unittest import mock
import uuid

import pytest

from demo import cloud as embedded

# isort: split

from nova.db.main import models
import nova.virt

FAKE = pathlib.Path(__file__).parents[2] / "devstack/fake"
MODULE = "nova.virt.nova_gpu_fake"

CONTROLLER = """
[pci]
report_in_placement = true
[filter_scheduler]
pci_in_placement = true
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_gpu_filter.scheduler.filters.all_filters
enabled_filters = ComputeFilter,GpuPciPassthroughFilter,NUMATopologyFilter
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Link the driver to where Nova looks for drivers, as the plugin does."""
    (tmp_path / "nova_gpu_fake.py").symlink_to(FAKE / "nova_gpu_fake.py")
    monkeypatch.setattr(
        nova.virt, "__path__", [*nova.virt.__path__, str(tmp_path)]
    )
    yield "nova_gpu_fake.GpuFakeDriver"
    sys.modules.pop(MODULE, None)
    vars(nova.virt).pop("nova_gpu_fake", None)


@pytest.fixture
def cloud(driver, tmp_path):
    """A cloud with two fake hosts, with what the plugin gives them."""
    (tmp_path / "nova.conf").write_text(CONTROLLER)
    with embedded.EmbeddedCloud(
        tmp_path / "nova.conf", FAKE / "nova.conf"
    ) as cloud:
        services = cloud.services
        services.flags(compute_driver=driver)
        for host in ("fake-1", "fake-2"):
            start_compute(services, host)
        for count in (1, 2, 4, 8):
            cloud.create_flavor(
                f"gpu-h100-{count}", {"pci_passthrough:alias": f"h100:{count}"}
            )
        yield cloud


def start_compute(services, host):
    """Start nova-compute with a node UUID of its own.

    nova-compute reads it from a file, of which this process has one.
    """
    node = str(uuid.uuid5(uuid.NAMESPACE_DNS, host))
    with mock.patch("nova.virt.node.get_local_node_uuid", return_value=node):
        compute = services.start_service("compute", host=host)
    for name in ("get_available_resource", "get_nodenames_by_uuid"):
        method = getattr(compute.driver, name)

        def on_this_host(*args, method=method, **kwargs):
            with mock.patch(
                "nova.virt.node.get_local_node_uuid", return_value=node
            ):
                return method(*args, **kwargs)

        setattr(compute.driver, name, on_this_host)
    services.computes[host] = compute
    services.compute_rp_uuids[host] = node


def test_each_host_has_eight_gpus_in_nova_and_in_placement(cloud):
    for host in cloud.hosts:
        devices = cloud.devices(host)
        assert len(devices) == 8
        gpus = [
            provider
            for provider in cloud.providers(host)
            if "CUSTOM_GPU_H100" in provider.inventory
        ]
        assert len(gpus) == 8


def test_what_nova_stores_of_a_gpu_fits_its_columns(cloud):
    """SQLite, here, stores anything; MySQL, in DevStack, refuses it."""
    lengths = {
        column.name: column.type.length
        for column in models.PciDevice.__table__.columns
        if getattr(column.type, "length", None)
    }
    assert {"vendor_id", "product_id", "dev_id", "address"} <= set(lengths)
    for device in cloud.services.computes["fake-1"].rt.pci_tracker.pci_devs:
        for name, length in lengths.items():
            stored = getattr(device, name, None)
            assert stored is None or len(str(stored)) <= length, name


def test_servers_get_gpus_by_their_links(cloud):
    pair = cloud.boot("pair", "gpu-h100-2")
    assert pair.status == "ACTIVE"
    numbers = sorted(
        int(device.address[5:7], 16) for device in cloud.list_devices(pair)
    )
    assert numbers in ([0x0F, 0x10], [0x41, 0x44], [0x86, 0x87], [0xB8, 0xBB])
    whole = cloud.boot("whole", "gpu-h100-8")
    assert whole.status == "ACTIVE"
    assert whole.host != pair.host
    assert len(cloud.list_devices(whole)) == 8
    late = cloud.boot("late", "gpu-h100-8")
    assert late.status == "ERROR"


def test_gpus_of_a_server_that_is_deleted_are_free_again(cloud):
    server = cloud.boot("first", "gpu-h100-8")
    cloud.delete(server)
    for name in ("second", "third"):
        assert cloud.boot(name, "gpu-h100-8").status == "ACTIVE"
