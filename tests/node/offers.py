# SPDX-License-Identifier: Apache-2.0

"""What a user can choose on a cloud of emulated hosts: an image, flavors."""

from collections.abc import Iterable

from cloud import bootstrap
from cloud import control
from tests.hardware import parts as parts_lib
from tests.node import kinds as kinds_lib

IMAGE = "lspci"
"""An image whose kernel lists the PCI devices that it sees."""


def make(
    cloud: control.Cloud,
    parts: parts_lib.Parts,
    kinds: Iterable[kinds_lib.Kind],
) -> None:
    """Make the image, and the flavors for some kinds of hosts."""
    connection = bootstrap.connect(cloud.state)
    kernel = connection.create_image(
        f"{IMAGE}-kernel",
        filename=str(parts.payload),
        container_format="aki",
        disk_format="aki",
        wait=True,
    )
    connection.create_image(
        IMAGE,
        # It is never read: the guest boots from its kernel.
        data=b"\0" * (1 << 20),
        container_format="ami",
        disk_format="ami",
        wait=True,
        kernel_id=kernel.id,
        # The payload looks at one bus, and a q35 has its devices on others.
        hw_machine_type="pc",
    )
    for kind in kinds:
        for name, specs in kind.flavors.items():
            flavor = connection.compute.create_flavor(
                name=name, ram=64, vcpus=1, disk=0
            )
            connection.compute.create_flavor_extra_specs(flavor, dict(specs))
