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
import sys
import traceback
from typing import Any

from nova import context
from nova import objects
from nova.conf import CONF
from nova.pci import manager
from nova.pci import request

from tests.hardware import nova_driver


def read_drivers(addresses: Iterable[str]) -> dict[str, str]:
    """Read the driver of each device."""
    return {
        address: pathlib.Path("/sys/bus/pci/devices", address, "driver")
        .readlink()
        .name
        for address in addresses
    }


def describe_pools(tracker: manager.PciDevTracker) -> list[dict[str, Any]]:
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


def track(ctxt: Any, resources: dict[str, Any]) -> manager.PciDevTracker:
    """Have Nova keep an account of the devices that its driver reports."""
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


def _run(alias: str, watched: list[str]) -> dict[str, Any]:
    """Boot one server, and destroy it."""
    driver = nova_driver.start()
    ctxt = context.get_admin_context()
    resources = driver.get_available_resource(CONF.host)
    told = {
        "reported": json.loads(resources["pci_passthrough_devices"]),
        "before": read_drivers(watched),
    }
    tracker = track(ctxt, resources)
    told["pools"] = describe_pools(tracker)

    flavor = nova_driver.describe_flavor(
        {"pci_passthrough:alias": f"{alias}:1"}
    )
    instance = nova_driver.create_instance(
        ctxt, flavor, request.get_pci_requests_from_flavor(flavor)
    )
    tracker.claim_instance(ctxt, instance.pci_requests, None)
    tracker.allocate_instance(instance)
    tracker.save(ctxt)
    told["claimed"] = [one.address for one in instance.pci_devices]
    told["pools_left"] = describe_pools(tracker)

    guest, told["xml"], told["console"] = nova_driver.boot(
        driver, ctxt, instance
    )
    told["live_xml"] = guest.get_xml_desc()
    told["during"] = read_drivers(watched)

    nova_driver.destroy(driver, ctxt, instance)
    tracker.free_instance(ctxt, instance)
    tracker.save(ctxt)
    told["after"] = read_drivers(watched)
    told["pools_after"] = describe_pools(tracker)
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
