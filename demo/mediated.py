# SPDX-License-Identifier: Apache-2.0

"""Hosts whose GPUs are divided into mediated devices (vGPUs)."""

from demo import threads  # noqa: F401

# isort: split

import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils

from demo import cloud as embedded
from demo import fake_machines

TYPE = fakelibvirt.NVIDIA_11_VGPU_TYPE
"""Each of the GPUs gives 16 of it."""
OTHER_TYPE = fakelibvirt.NVIDIA_12_VGPU_TYPE
"""Each gives 8."""


def add_compute(
    cloud: embedded.EmbeddedCloud, host: str, gpus: int = 2
) -> None:
    """Start nova-compute on a host whose GPUs offer both types.

    They are at 0000:81:00.0, 0000:81:01.0 and so on. Which types it makes is
    said by ``[devices]enabled_mdev_types``.
    """
    for name, patch in (
        # The kernel makes them in sysfs.
        ("_create_mdev", {"new": _make_mdev}),
        # Nova adds those that exist to those that can be made; of the GPUs of
        # the fixture as many can be made as ever.
        ("_count_mediated_devices", {"return_value": {}}),
    ):
        cloud.services.useFixture(
            fixtures.MockPatchObject(
                libvirt_driver.LibvirtDriver, name, **patch
            )
        )
    cloud.services.start_compute(
        host,
        host_info=fake_machines.build_plain_host().host_info,
        pci_info=fakelibvirt.HostPCIDevicesInfo(
            num_pci=0,
            num_pfs=0,
            num_vfs=0,
            num_mdevcap=gpus,
            multiple_gpu_types=True,
        ),
        libvirt_version=8000000,
        qemu_version=6002000,
    )


def _make_mdev(driver, parent, kind, uuid=None):
    """Do what ``LibvirtDriver._create_mdev`` does, to the fake libvirt."""
    uuid = uuid or uuidutils.generate_uuid()
    name = libvirt_utils.mdev_uuid2name(uuid)
    driver._host.get_connection().mdev_info.devices[name] = (
        fakelibvirt.FakeMdevDevice(dev_name=name, type_id=kind, parent=parent)
    )
    return uuid
