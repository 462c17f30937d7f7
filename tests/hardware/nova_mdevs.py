# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine: does what nova-compute does with mediated devices there.

Real are libvirt with mdevctl, Nova's driver for it, and what the resource
tracker makes of files of /etc/nova/provider_config. It is called with the
providers and classes that servers get one unit of, ``PCI_ADDRESS=CLASS``, and
tells what it saw as a line of JSON.
"""

import json
import os
import pathlib
import re
import sys
import traceback
from typing import Any

from nova import context
from nova import exception
from nova import objects
from nova.compute import provider_config
from nova.compute import provider_tree
from nova.compute import resource_tracker
from nova.conf import CONF
from oslo_utils import uuidutils

from tests.hardware import agent
from tests.hardware import nova_driver

_MADE = pathlib.Path("/sys/bus/mdev/devices")


def _list_made() -> dict[str, tuple[str, str]]:
    """Tell the address of the GPU and the type of each mediated device."""
    return {
        place.name: (
            place.resolve().parent.name,
            (place / "mdev_type").resolve().name,
        )
        for place in _MADE.iterdir()
    }


class _Compute:
    """The driver, and the providers of this compute node."""

    def __init__(self) -> None:
        self.driver = nova_driver.start()
        self.context = context.get_admin_context()
        (self._node,) = self.driver.get_available_nodes()
        self.tree = provider_tree.ProviderTree()
        self.tree.new_root(self._node, uuidutils.generate_uuid())

    def report(self) -> dict[str, dict[str, Any]]:
        """Report as to Placement.

        :returns: name of each provider of the node but its own -> its totals,
            keyed by resource class, and its traits of our own.
        """
        self.driver.update_provider_tree(self.tree, self._node)
        tracker = resource_tracker.ResourceTracker(
            CONF.host, self.driver, reportclient=object()
        )
        tracker._merge_provider_configs(
            provider_config.get_provider_configs(
                CONF.compute.provider_config_location
            ),
            self.tree,
        )
        told = {}
        for data in map(self.tree.data, self.tree.get_provider_uuids()):
            if data.name != self._node:
                told[data.name] = {
                    "totals": {
                        resource_class: one["total"]
                        for resource_class, one in data.inventory.items()
                    },
                    "traits": sorted(
                        one for one in data.traits if one.startswith("CUSTOM")
                    ),
                }
        return told

    def find(self, address: str) -> provider_tree.ProviderData:
        """Find the provider of a GPU."""
        symbol = re.sub("[:.]", "_", address)
        return self.tree.data(f"{self._node}_pci_{symbol}")

    def allocate(
        self, address: str, resource_class: str, amount: int = 1
    ) -> list[str]:
        """Do what spawn() does with an allocation.

        :returns: the mediated devices.
        """
        allocations = {
            self.find(address).uuid: {"resources": {resource_class: amount}}
        }
        return list(self.driver._allocate_mdevs(allocations))

    def create_instance(self) -> Any:
        """Write a server without PCI devices to the database."""
        return nova_driver.create_instance(
            self.context,
            nova_driver.describe_flavor({}),
            objects.InstancePCIRequests(requests=[]),
        )


def _run(wanted: list[tuple[str, str]]) -> dict[str, Any]:
    """Boot a server for each allocation, destroy them, and boot one again."""
    compute = _Compute()
    told: dict[str, Any] = {"before": compute.report(), "servers": []}
    instances = []
    for address, resource_class in wanted:
        instance = compute.create_instance()
        mdevs = compute.allocate(address, resource_class)
        guest, xml, console = nova_driver.boot(
            compute.driver, compute.context, instance, mdevs
        )
        told["servers"].append(
            {
                "mdevs": mdevs,
                "xml": xml,
                "live_xml": guest.get_xml_desc(),
                "console": console,
            }
        )
        instances.append(instance)
    told["during"] = compute.report()
    told["made"] = _list_made()
    told["inventory"] = json.loads(
        agent.run_host(["inventory", "-f", "json"])[1]
    )

    # As many as the last GPU can have, while one is in use.
    address, resource_class = wanted[-1]
    most = compute.find(address).inventory[resource_class]["total"]
    try:
        compute.allocate(address, resource_class, most)
    except exception.ComputeResourcesUnavailable as error:
        told["refusal"] = str(error)
    told["full"] = compute.report()
    told["full_made"] = _list_made()

    for instance in instances:
        nova_driver.destroy(compute.driver, compute.context, instance)
    told["after"] = compute.report()
    told["domains"] = compute.driver.list_instances()
    told["again"] = compute.allocate(*wanted[0])
    told["after_made"] = _list_made()
    return told


def main() -> int:
    """Tell all, or why not."""
    wanted = [
        (address, resource_class)
        for address, _, resource_class in (
            one.partition("=") for one in sys.argv[1:]
        )
    ]
    try:
        print(json.dumps(_run(wanted)), flush=True)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # At once: the driver's threads never end.
    os._exit(main())
