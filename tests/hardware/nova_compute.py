# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine: does what nova-compute does with the devices there.

Real are libvirt, Nova's driver for it, the PCI tracker with its pools, and
the tables where it keeps devices. There is no other service, so that this
script asks in place of one. It is called with the alias to boot a guest with
and the addresses of devices to watch, and tells what it saw as a line of JSON.
"""

from collections.abc import Iterable
import json
import os
import pathlib
import shutil
import sys
import time
import traceback
from typing import Any

from nova import config
from nova import context
from nova import objects
from nova.conf import CONF
from nova.conf import neutron
from nova.db.main import api as database
from nova.db.main import models
from nova.network import model as network_model
from nova.pci import manager
from nova.pci import request
from nova.virt import virtapi
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils

PAYLOAD = "/extras/boot/payload"
"""A guest's whole operating system."""
SECONDS = 300
# It boots from this kernel, and so from no disk.
_NO_DISKS = {"disk_bus": "virtio", "cdrom_bus": "ide", "mapping": {}}


def _drivers(addresses: Iterable[str]) -> dict[str, str]:
    return {
        address: pathlib.Path("/sys/bus/pci/devices", address, "driver")
        .readlink()
        .name
        for address in addresses
    }


def _pools(tracker: manager.PciDevTracker) -> list[dict[str, Any]]:
    """Tell the pools as they go to the database, and so to the scheduler."""
    return [
        {
            "vendor_id": pool.vendor_id,
            "product_id": pool.product_id,
            "numa_node": pool.numa_node,
            "count": pool.count,
            "tags": pool.tags,
        }
        for pool in tracker.stats.to_device_pools_obj()
    ]


def _start() -> libvirt_driver.LibvirtDriver:
    """Do what the nova-compute service does before it looks at devices."""
    config.parse_args(
        ["nova-compute", "--config-dir", "/etc/nova"],
        default_config_files=[],
        init_rpc=False,
    )
    neutron.register_dynamic_opts(CONF)
    objects.register_all()
    models.BASE.metadata.create_all(database.get_engine())
    pathlib.Path(CONF.instances_path).mkdir(parents=True, exist_ok=True)
    driver = libvirt_driver.LibvirtDriver(virtapi.VirtAPI())
    driver.init_host(CONF.host)
    return driver


def _track(ctxt: Any, resources: dict[str, Any]) -> manager.PciDevTracker:
    node = objects.ComputeNode(
        ctxt,
        host=CONF.host,
        cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
    )
    node.update_from_virt_driver(resources)
    node.create()
    tracker = manager.PciDevTracker(ctxt, node)
    tracker.update_devices_from_hypervisor_resources(
        resources["pci_passthrough_devices"]
    )
    tracker.save(ctxt)
    return tracker


def _instance(ctxt: Any, alias: str) -> Any:
    """Describe a server of a flavor with the alias, as the API would."""
    flavor = objects.Flavor(
        id=1,
        flavorid="1",
        name="gpu",
        memory_mb=64,
        vcpus=1,
        root_gb=0,
        ephemeral_gb=0,
        swap=0,
        rxtx_factor=1.0,
        vcpu_weight=0,
        disabled=False,
        is_public=True,
        extra_specs={"pci_passthrough:alias": f"{alias}:1"},
    )
    uuid = uuidutils.generate_uuid()
    requests = request.get_pci_requests_from_flavor(flavor)
    requests.instance_uuid = uuid
    nothing = dict.fromkeys(
        (
            *("os_type", "vm_mode", "architecture", "root_device_name"),
            *("numa_topology", "vcpu_model", "resources"),
            *("device_metadata", "trusted_certs"),
        )
    )
    return objects.Instance(
        ctxt,
        id=1,
        uuid=uuid,
        host=CONF.host,
        node=CONF.host,
        project_id="project",
        user_id="user",
        display_name="gpu",
        flavor=flavor,
        image_ref="",
        kernel_id="payload",
        ramdisk_id="",
        system_metadata={},
        metadata={},
        pci_requests=requests,
        pci_devices=objects.PciDeviceList(objects=[]),
        **nothing,
    )


def _wait_for_end(log: pathlib.Path) -> list[str]:
    """Wait until the payload has told all.

    :raises TimeoutError: it does not.
    """
    end = time.monotonic() + SECONDS
    while True:
        lines = log.read_text().splitlines() if log.exists() else []
        if "end" in lines:
            return lines
        if time.monotonic() > end:
            raise TimeoutError(f"the guest says only {lines}")
        time.sleep(0.5)


def _run(alias: str, watched: list[str]) -> dict[str, Any]:
    """Boot one server, and destroy it."""
    driver = _start()
    ctxt = context.get_admin_context()
    resources = driver.get_available_resource(CONF.host)
    told = {
        "reported": json.loads(resources["pci_passthrough_devices"]),
        "before": _drivers(watched),
    }
    tracker = _track(ctxt, resources)
    told["pools"] = _pools(tracker)

    instance = _instance(ctxt, alias)
    tracker.claim_instance(ctxt, instance.pci_requests, None)
    tracker.allocate_instance(instance)
    tracker.save(ctxt)
    told["claimed"] = [one.address for one in instance.pci_devices]
    told["pools_left"] = _pools(tracker)

    place = pathlib.Path(libvirt_utils.get_instance_path(instance))
    place.mkdir()
    shutil.copy(PAYLOAD, place / "kernel")
    network = network_model.NetworkInfo()
    # The payload looks at one bus, and a q35 has its devices on others.
    image = objects.ImageMeta.from_dict(
        {"properties": {"hw_machine_type": "pc"}}
    )
    # What spawn() does when image and network are there.
    told["xml"] = driver._get_guest_xml(
        ctxt, instance, network, _NO_DISKS, image
    )
    guest = driver._create_guest(ctxt, told["xml"], instance)
    told["console"] = _wait_for_end(place / "console.log")
    told["live_xml"] = guest.get_xml_desc()
    told["during"] = _drivers(watched)

    driver.destroy(ctxt, instance, network, destroy_disks=False)
    tracker.free_instance(ctxt, instance)
    tracker.save(ctxt)
    told["after"] = _drivers(watched)
    told["pools_after"] = _pools(tracker)
    told["domains"] = driver.list_instances()
    return told


def main() -> int:
    """Tell all, or why not."""
    try:
        print(json.dumps(_run(sys.argv[1], sys.argv[2:])), flush=True)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # At once: the driver's threads never end.
    os._exit(main())
