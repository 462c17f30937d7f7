# SPDX-License-Identifier: Apache-2.0

"""A fake libvirt whose guests outlive the process that uses it.

Nova's fixture keeps domains in memory. Here each is a file as well, as libvirt
itself would keep it, so a nova-compute that was killed finds its guests again.
To be imported after the threading model was chosen (compute.py).
"""

import json
import pathlib
import threading

from nova.tests.fixtures import libvirt as fakelibvirt

from cloud import domain_xml
from nova_gpu_filter.host import inventory as inventories

_MEMORY_KB = 256 * 1024 * 1024


def host_info(host: inventories.Inventory) -> fakelibvirt.HostInfo:
    """Describe a machine with the NUMA nodes of the inventory.

    Each has four threads of two cores; Nova overcommits them.
    """
    return fakelibvirt.HostInfo(
        cpu_nodes=max(1, len(host.numa_nodes)),
        cpu_sockets=1,
        cpu_cores=2,
        cpu_threads=2,
        kB_mem=_MEMORY_KB,
    )


def pci_info(host: inventories.Inventory) -> fakelibvirt.HostPCIDevicesInfo:
    """Describe the devices of the inventory that are worth giving to guests.

    Nova's fixture knows PCI domain 0 only.

    :raises ValueError: a device is in another domain.
    """
    found = fakelibvirt.HostPCIDevicesInfo(num_pci=0, num_pfs=0, num_vfs=0)
    for device in host.devices:
        if device.address.domain:
            raise ValueError(f"{device.address} is not in PCI domain 0000")
        found.add_device(
            dev_type="PF" if device.is_pf else "PCI",
            bus=device.address.bus,
            slot=device.address.slot,
            function=device.address.function,
            iommu_group=device.iommu_group or 0,
            numa_node=-1 if device.numa_node is None else device.numa_node,
            # SR-IOV is there, no virtual function is made.
            vf_ratio=0 if device.is_pf else None,
            vend_id=f"{device.vendor_id:04x}",
            vend_name=device.vendor_name or "unknown",
            prod_id=f"{device.product_id:04x}",
            prod_name=device.product_name or "unknown",
            driver_name=device.driver or "vfio-pci",
        )
    return found


class Connection(fakelibvirt.Connection):
    """A connection to a libvirt that keeps its domains in a directory.

    Nova's fixture is made for one thread at a time; nova-compute has many.
    """

    def __init__(
        self,
        host: inventories.Inventory,
        hostname: str,
        directory: pathlib.Path,
    ) -> None:
        """Find the domains that are there already, in the state they had."""
        super().__init__(
            "qemu:///system",
            host_info=host_info(host),
            pci_info=pci_info(host),
            hostname=hostname,
        )
        self._lock = threading.RLock()
        self._xml: dict[str, str] = {}
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.glob("*.json")):
            kept = json.loads(path.read_text())
            domain = fakelibvirt.Domain(self, kept["xml"])
            self._vms[domain.name()] = domain
            self._xml[domain.UUIDString()] = kept["xml"]
            if kept["running"]:
                domain.create()

    def defineXML(self, xml: str) -> fakelibvirt.Domain:
        """Define a domain, or define it anew."""
        with self._lock:
            domain = super().defineXML(xml)
            self._xml[domain.UUIDString()] = xml
            self._keep(domain)
            return domain

    def lookupByUUIDString(self, uuid: str) -> fakelibvirt.Domain:
        """Find a domain."""
        with self._lock:
            return super().lookupByUUIDString(uuid)

    def listAllDomains(
        self, flags: int | None = None
    ) -> list[fakelibvirt.Domain]:
        """List the domains that run, or do not, or both."""
        with self._lock:
            return super().listAllDomains(flags)

    def _mark_running(self, dom: fakelibvirt.Domain) -> None:
        with self._lock:
            self._refuse_devices_in_use(dom)
            super()._mark_running(dom)
            self._keep(dom)

    def _refuse_devices_in_use(self, dom: fakelibvirt.Domain) -> None:
        """Do not start a domain with a device that is in use.

        As virHostdevPreparePCIDevices of libvirt, src/hypervisor/virhostdev.c.

        :raises libvirtError: it is in use, be it by this domain.
        """
        user_by_address: dict[str, str] = {}
        for running in self._running_vms.values():
            xml = self._xml.get(running.UUIDString(), "")
            if xml and running is not dom:
                for address in domain_xml.hostdevs(xml):
                    user_by_address[address] = running.name()
        for address in domain_xml.hostdevs(self._xml[dom.UUIDString()]):
            if address in user_by_address:
                dom._state = fakelibvirt.VIR_DOMAIN_SHUTOFF
                raise fakelibvirt.make_libvirtError(
                    fakelibvirt.libvirtError,
                    "Requested operation is not valid: PCI device"
                    f" {address} is in use by driver QEMU, domain"
                    f" {user_by_address[address]}",
                    error_code=fakelibvirt.VIR_ERR_OPERATION_INVALID,
                )
            user_by_address[address] = dom.name()

    def _mark_not_running(self, dom: fakelibvirt.Domain) -> None:
        with self._lock:
            super()._mark_not_running(dom)
            self._keep(dom)

    def _undefine(self, dom: fakelibvirt.Domain) -> None:
        with self._lock:
            super()._undefine(dom)
            self._xml.pop(dom.UUIDString(), None)
            self._path(dom).unlink(missing_ok=True)

    def _path(self, domain: fakelibvirt.Domain) -> pathlib.Path:
        return self._directory / f"{domain.UUIDString()}.json"

    def _keep(self, domain: fakelibvirt.Domain) -> None:
        xml = self._xml.get(domain.UUIDString())
        if xml is None:
            return
        path = self._path(domain)
        temporary = path.with_suffix(".new")
        temporary.write_text(
            json.dumps(
                {
                    "name": domain.name(),
                    "running": bool(domain.isActive()),
                    "xml": xml,
                }
            )
        )
        temporary.replace(path)
