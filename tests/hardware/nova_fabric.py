# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine with a Fabric Manager: builds servers as nova-compute
does, one of them on a partition that cannot be activated.

Nova's driver, its PCI tracker and what its compute manager does for a build
are real; services that are not there are said to have nothing. The script is
called with the alias, the file that is Fabric Manager, and three groups of
addresses: ``ALIAS FILE ADDRESS,... ADDRESS,... ADDRESS,...``. The server on
the second group fails. What was seen is told as a line of JSON.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import sys
import traceback
from typing import Any
from unittest import mock

import libvirt
from nova import context
from nova import exception
from nova import objects
from nova.compute import manager as compute_manager
from nova.compute import utils as compute_utils
from nova.conf import CONF
from nova.network import model as network_model
from nova.pci import manager as pci_manager
from nova.pci import request as pci_request
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import driver as libvirt_driver

from tests.hardware import nova_compute
from tests.hardware import nova_driver

FAILURE = "fail fmActivateFabricPartition -10 1"
"""The next activation has an error of NVLink (see fake_nvfm.c)."""


class Tracker:
    """What of Nova's ResourceTracker a build needs, without its services."""

    def __init__(self, devices: pci_manager.PciDevTracker) -> None:
        self.devices = devices

    @contextlib.contextmanager
    def instance_claim(
        self, ctxt: Any, instance: Any, *_more: Any
    ) -> Iterator[None]:
        """Claim devices; they are given back when the build fails."""
        self.devices.claim_instance(ctxt, instance.pci_requests, None)
        self.devices.allocate_instance(instance)
        self.devices.save(ctxt)
        try:
            yield
        except Exception:
            self.free(ctxt, instance)
            raise

    def free(self, ctxt: Any, instance: Any) -> None:
        """Give the devices of a server back."""
        self.devices.free_instance(ctxt, instance)
        self.devices.save(ctxt)


class Manager(compute_manager.ComputeManager):
    """Nova's compute manager, which has only what a build asks."""

    def __init__(
        self, driver: libvirt_driver.LibvirtDriver, tracker: Tracker
    ) -> None:
        # Not Nova's own, which connects to all services.
        self.host = CONF.host
        self.driver = driver
        self.rt = tracker
        self.reportclient = mock.Mock()
        self.reportclient.get_allocations_for_consumer.return_value = {}
        self.network_api = mock.Mock()
        self.network_api.get_instance_nw_info.return_value = (
            network_model.NetworkInfo()
        )
        self.volume_api = mock.Mock()
        self.share_manager = mock.Mock()
        self.share_manager.get_share_info.return_value = []
        self.send_instance_updates = False
        self.notifier = mock.Mock()
        self.instance_events = compute_manager.InstanceEvents()
        driver.virtapi = compute_manager.ComputeVirtAPI(self)


class Node:
    """The compute node, and what was seen on it."""

    def __init__(self, alias: str, path: str) -> None:
        self._alias = alias
        self._path = path
        self._context = context.get_admin_context()
        self._driver = nova_driver.start()
        self._driver._create_image = self._create_image
        resources = self._driver.get_available_resource(CONF.host)
        self.tracker = Tracker(nova_compute.track(self._context, resources))
        self._manager = Manager(self._driver, self.tracker)
        self.raised: list[tuple[str, int]] = []
        spawn = self._driver.spawn

        def watch(*arguments: Any, **named: Any) -> None:
            try:
                spawn(*arguments, **named)
            except libvirt.libvirtError as error:
                self.raised.append((str(error), error.get_error_code()))
                raise

        self._driver.spawn = watch

    @staticmethod
    def _create_image(
        _context: Any, instance: Any, *_more: Any, **_named: Any
    ) -> tuple[bool, bool]:
        """Do what Nova does with an image that is only a kernel."""
        nova_driver.make_place(instance)
        return True, True

    def _change(self, line: str) -> None:
        with open(self._path, "a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{line}\n")

    def _read_active(self) -> list[int]:
        with open(self._path, encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            rows = [line.split() for line in file]
        return [
            int(row[1])
            for row in rows
            if row[0] == "partition" and row[2] == "1"
        ]

    def build(self, addresses: list[str], fails: bool) -> dict[str, Any]:
        """Build a server, look at it, and delete it.

        :param addresses: the devices that the scheduler has chosen.
        """
        flavor = nova_driver.describe_flavor(
            {"pci_passthrough:alias": f"{self._alias}:{len(addresses)}"}
        )
        instance = nova_driver.create_instance(
            self._context,
            flavor,
            pci_request.get_pci_requests_from_flavor(flavor),
        )
        self._place(instance, addresses)
        if fails:
            self._change(FAILURE)
        seen: dict[str, Any] = {}
        try:
            self._manager._build_and_run_instance(
                self._context,
                instance,
                nova_driver.IMAGE,
                injected_files=[],
                admin_password=None,
                requested_networks=objects.NetworkRequestList(
                    objects=[objects.NetworkRequest(network_id="none")]
                ),
                security_groups=[],
                block_device_mapping=objects.BlockDeviceMappingList(
                    objects=[]
                ),
                node=CONF.host,
                limits={},
                filter_properties={},
            )
        except exception.NovaException as error:
            seen["outcome"] = type(error).__name__
            seen["reason"] = str(error)
        else:
            seen["outcome"] = "built"
            seen["uuid"] = instance.uuid
            seen["claimed"] = [one.address for one in instance.pci_devices]
            seen["console"] = nova_driver.wait_for_end(instance)
            seen["active"] = self._read_active()
            seen["drivers"] = nova_compute.read_drivers(addresses)
            self._driver.destroy(
                self._context, instance, network_model.NetworkInfo()
            )
            self.tracker.free(self._context, instance)
        seen["active_after"] = self._read_active()
        seen["drivers_after"] = nova_compute.read_drivers(addresses)
        seen["domains_after"] = self._driver.list_instances()
        seen["free_after"] = sum(
            pool["count"]
            for pool in nova_compute.describe_pools(self.tracker.devices)
        )
        return seen

    @staticmethod
    def _place(instance: Any, addresses: list[str]) -> None:
        """Ask for devices one by one, as a scheduler that has claimed them
        in Placement does; of pools there they are known by their address.
        """
        (request,) = instance.pci_requests.requests
        instance.pci_requests.requests = [
            objects.InstancePCIRequest(
                count=1,
                alias_name=request.alias_name,
                request_id=f"{request.request_id}-{number}",
                spec=[{**one, "address": address} for one in request.spec],
            )
            for number, address in enumerate(addresses)
        ]


def _run(alias: str, path: str, *groups: str) -> dict[str, Any]:
    with (
        mock.patch.object(compute_utils, "notify_about_instance_create"),
        mock.patch.object(compute_utils, "notify_about_instance_action"),
        mock.patch.object(compute_utils, "notify_about_instance_usage"),
        mock.patch.object(
            blockinfo, "get_disk_info", return_value=nova_driver.NO_DISKS
        ),
    ):
        node = Node(alias, path)
        told: dict[str, Any] = {
            "pools": nova_compute.describe_pools(node.tracker.devices)
        }
        told["builds"] = [
            node.build(group.split(","), fails=number == 1)
            for number, group in enumerate(groups)
        ]
        told["raised"] = node.raised
    return told


def main() -> int:
    """Tell all, or why not."""
    try:
        print(json.dumps(_run(*sys.argv[1:])), flush=True)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # At once: the driver's threads never end.
    os._exit(main())
