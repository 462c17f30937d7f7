# SPDX-License-Identifier: Apache-2.0

"""Asks what is wrong with a flavor."""

from nova_gpu_filter.fleet import guest_memory
from nova_gpu_filter.fleet import lint
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import ALIASES
from tests.unit.fleet.test_capacity import flavor

GIB = 1 << 30
HGX = machines.hgx_h100_partitions()
GOOD_IMAGE = {"hw_firmware_type": "uefi", "hw_machine_type": "pc-q35-9.0"}


def check(asked, topology=HGX, bars=0, image=GOOD_IMAGE, name=None):
    """List what is wrong with a flavor, on a host with eight GPUs.

    :param bars: bytes of address space that each of them takes.
    :returns: [(severity, extra spec or property, text), ...].
    """
    host = builders.machine("a", topology, used=range(8))
    question = lint.Question(
        flavor(**asked),
        ALIASES,
        "nova.conf",
        [host],
        {d.uuid: guest_memory.Product(name, bars) for d in host.devices},
        image,
    )
    return [(f.severity.value, f.key, f.text) for f in lint.check(question)]
