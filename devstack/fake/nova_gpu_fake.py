# SPDX-License-Identifier: Apache-2.0

"""A virt driver for tests: Nova's fake driver, with eight GPUs.

The plugin links this file into nova/virt of Nova's checkout, since Nova loads
drivers from nowhere else (``load_compute_driver`` in nova/virt/driver.py).
Nothing of nova_gpu_filter imports it. Beside it, ``nova.conf`` has the device
specs and the alias.
"""

from nova.virt import fake
from oslo_serialization import jsonutils

NUMA_NODES = {
    "0000:0f:00.0": 0,
    "0000:10:00.0": 0,
    "0000:41:00.0": 0,
    "0000:44:00.0": 0,
    "0000:86:00.0": 1,
    "0000:87:00.0": 1,
    "0000:b8:00.0": 1,
    "0000:bb:00.0": 1,
}
"""The NUMA node of each GPU by its address: four bridged pairs of H100 NVL,
the addresses those of a DGX H100."""


class GpuFakeDriver(fake.FakeDriverWithoutFakeNodes):
    """A host with eight H100 NVL, on which servers only seem to run.

    The devices fit the columns of Nova's table pci_devices, whose lengths
    MySQL enforces, unlike SQLite: FakeDriverWithPciResources of
    nova/virt/fake.py has ids of fifteen characters where four are stored.
    """

    def get_available_resource(self, nodename):
        """Add the GPUs to what the fake driver reports.

        :returns: a dict as ``ComputeDriver.get_available_resource`` explains;
            ``pci_passthrough_devices`` is JSON, a list of devices.
        """
        resources = super().get_available_resource(nodename)
        resources["pci_passthrough_devices"] = jsonutils.dumps(
            [
                {
                    "address": address,
                    "dev_id": f"pci_{address.translate(_UNDERSCORES)}",
                    "vendor_id": "10de",
                    "product_id": "2321",
                    "label": "label_10de_2321",
                    # As libvirt's driver calls what can have VFs.
                    "dev_type": "type-PF",
                    "parent_addr": None,
                    "numa_node": numa_node,
                    "status": "available",
                }
                for address, numa_node in NUMA_NODES.items()
            ]
        )
        return resources


_UNDERSCORES = str.maketrans(":.", "__")
