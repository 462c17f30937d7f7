# SPDX-License-Identifier: Apache-2.0

"""Runs in a machine: Nova's driver for libvirt, as nova-compute has it.

There is no other service: what nova-api and nova-conductor would say of a
server is said here, and it boots a payload and not an image.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
import shutil
import time
from typing import Any

from nova import config
from nova import objects
from nova.conf import CONF
from nova.conf import neutron
from nova.db.main import api as database
from nova.db.main import models
from nova.network import model as network_model
from nova.virt import virtapi
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils

PAYLOAD = "/extras/boot/payload"
"""A guest's whole operating system."""
SECONDS = 300
NETWORK = network_model.NetworkInfo()
NO_DISKS = {"disk_bus": "virtio", "cdrom_bus": "ide", "mapping": {}}
"""It boots from this kernel, and so from no disk."""
IMAGE = {"properties": {"hw_machine_type": "pc"}}
"""The payload looks at one bus, and a q35 has its devices on others."""


def start() -> libvirt_driver.LibvirtDriver:
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


def describe_flavor(extra_specs: Mapping[str, str]) -> Any:
    """Describe a flavor for the payload."""
    return objects.Flavor(
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
        extra_specs=dict(extra_specs),
    )


def create_instance(ctxt: Any, flavor: Any, pci_requests: Any) -> Any:
    """Write a server to the database as API and conductor would."""
    uuid = uuidutils.generate_uuid()
    pci_requests.instance_uuid = uuid
    instance = objects.Instance(
        ctxt,
        uuid=uuid,
        project_id="project",
        user_id="user",
        display_name="gpu",
        flavor=flavor,
        image_ref="",
        kernel_id="payload",
        ramdisk_id="",
        pci_requests=pci_requests,
    )
    instance.create()
    instance.host = CONF.host
    return instance


def find_place(instance: Any) -> pathlib.Path:
    """Find the directory of a server."""
    return pathlib.Path(libvirt_utils.get_instance_path(instance))


def make_place(instance: Any) -> None:
    """Make what Nova makes of an image that is only a kernel."""
    place = find_place(instance)
    place.mkdir()
    shutil.copy(PAYLOAD, place / "kernel")


def boot(
    driver: libvirt_driver.LibvirtDriver,
    ctxt: Any,
    instance: Any,
    mdevs: Iterable[str] = (),
) -> tuple[libvirt_guest.Guest, str, list[str]]:
    """Do what spawn() does when image and network are there.

    :param mdevs: the mediated devices that the server gets.
    :returns: the running guest, the XML that Nova wrote of it, and what its
        payload told.
    :raises TimeoutError: the payload does not tell all.
    """
    make_place(instance)
    image = objects.ImageMeta.from_dict(IMAGE)
    xml = driver._get_guest_xml(
        ctxt, instance, NETWORK, NO_DISKS, image, mdevs=list(mdevs)
    )
    guest = driver._create_guest(ctxt, xml, instance)
    return guest, xml, wait_for_end(instance)


def wait_for_end(instance: Any) -> list[str]:
    """Wait until the payload has told all.

    :raises TimeoutError: it does not.
    """
    log = find_place(instance) / "console.log"
    end = time.monotonic() + SECONDS
    while True:
        lines = log.read_text().splitlines() if log.exists() else []
        if "end" in lines:
            return lines
        if time.monotonic() > end:
            raise TimeoutError(f"the guest says only {lines}")
        time.sleep(0.5)


def destroy(
    driver: libvirt_driver.LibvirtDriver, ctxt: Any, instance: Any
) -> None:
    """Destroy a server."""
    driver.destroy(ctxt, instance, NETWORK, destroy_disks=False)
