# SPDX-License-Identifier: Apache-2.0

"""A cloud of two HGX H100 in a real Nova and Placement."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib

from demo import chapter_topology
from demo import cloud as embedded
from demo import fake_machines

HOSTS = ("hgx-1", "hgx-2")
ALIAS = '{"name": "h100", "resource_class": "CUSTOM_GPU_H100"}'


@contextlib.contextmanager
def run(sizes: Iterable[int]) -> Iterator[embedded.EmbeddedCloud]:
    """Run it, without servers.

    :param sizes: for each a flavor ``any.<size>`` with so many GPUs is made.
    """
    with embedded.EmbeddedCloud(
        chapter_topology.CONF, extend_placement=True
    ) as running:
        for host in HOSTS:
            running.add_compute(host, fake_machines.hgx_h100())
        for gpus in sizes:
            running.create_flavor(
                f"any.{gpus}", {"pci_passthrough:alias": f"h100:{gpus}"}
            )
        yield running
