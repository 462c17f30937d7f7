# SPDX-License-Identifier: Apache-2.0

"""The free devices of a host that one request may use, and their links."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools

from oslo_log import log as logging

from nova_gpu_filter.pools import request
from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import host_topologies
from nova_gpu_filter.topology.topology import Topology

LOG = logging.getLogger(__name__)

MOST_COMPARED = 64
"""Most devices of a host that are compared by their links: the work grows with
the square of their number, and no host that is known has more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Devices:
    """Pools as devices: bits of a topology, in the order of addresses.

    With PCI in Placement a pool is one device, or the VFs of one.
    """

    topology: Topology
    """The links between them; all of them are free."""
    names: tuple[str, ...]
    """PCI addresses, by bit."""
    bit_by_rp_uuid: Mapping[str, int]
    """Resource provider UUID -> number of the bit."""

    def make_mask(self, rp_uuids: Iterable[str]) -> int | None:
        """Return the set of the devices of these providers.

        :returns: None when a provider is not among them or stands twice, so
            that they are no set of devices.
        """
        mask = 0
        for rp_uuid in rp_uuids:
            bit = self.bit_by_rp_uuid.get(rp_uuid)
            if bit is None or mask >> bit & 1:
                return None
            mask |= 1 << bit
        return mask

    def list_bits(self, rp_uuids: Iterable[str]) -> list[int]:
        """List the devices of providers, one entry a provider that is known;
        a device that gives several VFs stands several times."""
        return [
            self.bit_by_rp_uuid[rp_uuid]
            for rp_uuid in rp_uuids
            if rp_uuid in self.bit_by_rp_uuid
        ]

    def list_addresses(self, mask: int) -> tuple[str, ...]:
        """List the addresses of a set."""
        return tuple(
            name for bit, name in enumerate(self.names) if mask >> bit & 1
        )


def are_comparable(
    pools: Iterable[request.Pool], *requests: request.DeviceRequest
) -> bool:
    """Whether the devices that any of the requests may use are few enough."""
    found = sum(
        any(asked.drop(pool) is None for asked in requests) for pool in pools
    )
    return found <= MOST_COMPARED


def find_usable(
    pools: Iterable[request.Pool], *requests: request.DeviceRequest
) -> Devices:
    """Collect what any of the requests may use of the pools of a host.

    Where a tag cannot be read, ``numa_node`` alone counts.
    """
    found = sorted(
        (
            (str(pool.get("address") or ""), index, pool)
            for index, pool in enumerate(pools)
            if pool["count"]
            and any(asked.drop(pool) is None for asked in requests)
        ),
        # A longer domain (10000:01:00.0) is a greater one.
        key=lambda device: (len(device[0]), *device[:2]),
    )
    links = [
        (address, pool.get(codec.TAG), pool.get("numa_node"))
        for address, _, pool in found
    ]
    try:
        topology = host_topologies.build_from_pools(links)
    except codec.LinkTextError as exc:
        _warn(str(exc))
        topology = host_topologies.build_from_pools(
            [(address, None, node) for address, _, node in links]
        )
    return Devices(
        topology,
        tuple(address for address, _, _ in found),
        {
            pool["rp_uuid"]: bit
            for bit, (_, _, pool) in enumerate(found)
            if "rp_uuid" in pool
        },
    )


@functools.lru_cache(maxsize=1024)
def _warn(problem: str) -> None:
    """Warn once of each problem, not with every request."""
    LOG.warning(
        "%s. The links of the devices of this host are unknown until [pci]"
        "device_spec is corrected in its nova.conf and nova-compute is started"
        " again; only their NUMA nodes are used.",
        problem,
    )
