# SPDX-License-Identifier: Apache-2.0

"""What there is inside of an embedded cloud, read from Nova and Placement."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

from demo import services

# isort: split

import fixtures
from lxml import etree
from nova import context as nova_context
from nova import objects

from demo import scheduler_log
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology import topology as topologies

_PLACEMENT_MICROVERSION = "1.36"


@dataclasses.dataclass(frozen=True)
class Server:
    """What the compute API says of a server."""

    name: str
    uuid: str
    status: str
    host: str | None
    fault: str | None


@dataclasses.dataclass(frozen=True)
class Device:
    """One row of Nova's PCI tracker."""

    host: str
    address: str
    product: str
    """``vendor_id:product_id``."""
    numa_node: int | None
    status: str
    server: str | None
    """Name of the server that holds it."""
    server_uuid: str | None


@dataclasses.dataclass(frozen=True)
class Provider:
    """A resource provider below a compute host, for a PCI device."""

    name: str
    address: str
    inventory: Mapping[str, int]
    """Total by resource class."""
    usage: Mapping[str, int]
    """Used by resource class."""
    traits: tuple[str, ...]


class CloudReader:
    """Reads devices, providers and guests past the compute API."""

    def __init__(
        self, running: services.Services, decisions: scheduler_log.Recorder
    ) -> None:
        """Nothing is read yet."""
        self._services = running
        self._decisions = decisions
        self._server_names: dict[str, str] = {}
        self._provider_names: dict[str, str] = {}
        self._topologies: dict[str, topologies.Topology] = {}
        self._history: list[tuple[str, str]] = []

    @property
    def hosts(self) -> list[str]:
        """Names of the compute hosts, sorted."""
        return sorted(self._services.computes)

    def devices(self, host: str) -> list[Device]:
        """List what the PCI tracker of a host has, by address."""
        context = nova_context.get_admin_context()
        node = objects.ComputeNode.get_by_nodename(context, host)
        found = objects.PciDeviceList.get_by_compute_node(context, node.id)
        return sorted(
            (
                Device(
                    host=host,
                    address=device.address,
                    product=f"{device.vendor_id}:{device.product_id}",
                    numa_node=device.numa_node,
                    status=device.status,
                    server=self._server_names.get(
                        device.instance_uuid, device.instance_uuid
                    ),
                    server_uuid=device.instance_uuid,
                )
                for device in found
            ),
            key=lambda device: device.address,
        )

    def list_devices(self, server: Server) -> list[Device]:
        """List the devices that a server holds, on any host."""
        return [
            device
            for host in self.hosts
            for device in self.devices(host)
            if device.server_uuid == server.uuid
        ]

    def device_states(self, address: str) -> list[str]:
        """List the states of a device since the cloud started, in order."""
        return ["available"] + [
            status for seen, status in self._history if seen == address
        ]

    def pools(self, host: str) -> list[dict[str, Any]]:
        """List the pools of a host as the scheduler will read them.

        :returns: a dict a pool: ``count``, ``product_id`` and so on, with the
            tags among them.
        """
        node = objects.ComputeNode.get_by_nodename(
            nova_context.get_admin_context(), host
        )
        if node.pci_device_pools is None:
            return []
        return [pool.to_dict() for pool in node.pci_device_pools]

    def hostdevs(self, server: Server) -> list[str]:
        """List the ``<hostdev>`` elements that the libvirt driver wrote.

        Read from the domain XML that it gave to libvirt on ``server.host``.
        """
        xml = self._services.domain_xml.get(server.host, {}).get(server.uuid)
        if xml is None:
            return []
        elements = etree.fromstring(xml).findall("devices/hostdev")
        texts = []
        for element in elements:
            element.tail = None
            etree.indent(element)
            texts.append(etree.tostring(element, encoding="unicode"))
        return texts

    def hostdev_addresses(self, server: Server) -> list[str]:
        """List the PCI addresses in the domain XML of a server, sorted."""
        addresses = []
        for text in self.hostdevs(server):
            source = etree.fromstring(text).find("source/address")
            domain, bus, slot, function = (
                int(source.get(part), 16)
                for part in ("domain", "bus", "slot", "function")
            )
            addresses.append(f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
        return sorted(addresses)

    def providers(self, host: str) -> list[Provider]:
        """List the resource providers of PCI devices below a host."""
        root = self._services.compute_rp_uuids[host]
        tree = self._placement(f"/resource_providers?in_tree={root}")
        found = []
        for provider in tree["resource_providers"]:
            if provider["uuid"] == root:
                continue
            path = f"/resource_providers/{provider['uuid']}"
            inventories = self._placement(f"{path}/inventories")["inventories"]
            found.append(
                Provider(
                    name=provider["name"],
                    address=_address_in(provider["name"]),
                    inventory={
                        rc: inventory["total"]
                        for rc, inventory in inventories.items()
                    },
                    usage=self._placement(f"{path}/usages")["usages"],
                    traits=tuple(
                        sorted(self._placement(f"{path}/traits")["traits"])
                    ),
                )
            )
        return sorted(found, key=lambda provider: provider.name)

    def topology(self, host: str) -> topologies.Topology:
        """Return how the devices of a host are linked, by address.

        As the traits of their providers tell; read once a host.
        """
        if host not in self._topologies:
            traits = {
                provider.address: provider.traits
                for provider in self.providers(host)
            }
            self._topologies[host] = host_topologies.build_from_traits(
                [
                    (device.address, traits[device.address], device.numa_node)
                    for device in self.devices(host)
                ]
            )
        return self._topologies[host]

    def allocations(self, consumer: Server) -> dict[str, dict[str, int]]:
        """Map provider names to what a server has allocated of them."""
        allocations = self._placement(f"/allocations/{consumer.uuid}")
        return {
            self._provider_name(uuid): allocation["resources"]
            for uuid, allocation in allocations["allocations"].items()
        }

    def allocated_addresses(self, server: Server) -> list[str]:
        """List the PCI addresses that a server has allocated in Placement."""
        return sorted(
            _address_in(name)
            for name in self.allocations(server)
            if name not in self.hosts
        )

    def decisions(self) -> scheduler_log.Decisions:
        """Start to note what the scheduler says of its decisions."""
        return scheduler_log.Decisions(self._decisions.lines)

    def _placement(self, path: str) -> Any:
        return self._services.placement.get(
            path, version=_PLACEMENT_MICROVERSION
        ).body

    def _provider_name(self, uuid: str) -> str:
        if uuid not in self._provider_names:
            self._provider_names[uuid] = self._placement(
                f"/resource_providers/{uuid}"
            )["name"]
        return self._provider_names[uuid]

    def _record_device_states(self) -> None:
        """Note each change of state of a PCI device; nothing else changes.

        The state ``claimed`` lasts for milliseconds while a server is built,
        so it cannot be seen by asking afterwards.
        """

        def recording(method: Callable[..., Any]) -> Callable[..., Any]:
            def record(device, *args, **kwargs):
                before = device.status
                result = method(device, *args, **kwargs)
                if device.status != before:
                    self._history.append((device.address, device.status))
                return result

            return record

        for name in ("claim", "allocate", "free"):
            self._services.useFixture(
                fixtures.MockPatchObject(
                    objects.PciDevice,
                    name,
                    recording(getattr(objects.PciDevice, name)),
                )
            )


def _address_in(provider_name: str) -> str:
    """Return the PCI address in the name of a device's provider.

    Nova names it ``<host>_<address>`` with capital letters, see
    nova/compute/pci_placement_translator.py.
    """
    return provider_name.rpartition("_")[2].lower()


def addresses(devices: Iterable[Device]) -> list[str]:
    """List the addresses of devices, sorted."""
    return sorted(device.address for device in devices)
