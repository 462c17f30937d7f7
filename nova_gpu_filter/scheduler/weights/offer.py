# SPDX-License-Identifier: Apache-2.0

"""The device set that a host offers: what its first candidate would claim."""

import dataclasses

from nova_gpu_filter.pools import request
from nova_gpu_filter.pools import usable_devices
from nova_gpu_filter.scheduler import host_pools
from nova_gpu_filter.topology import choice


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """The devices of a host for the first PCI request of an instance."""

    devices: usable_devices.Devices
    """All free devices that the request could use."""
    mask: int
    """Those that the first candidate claims."""


def find(host_state, requests: request.DeviceRequests) -> Offer | None:
    """Read the device set that the scheduler would claim on a host.

    Without PCI in Placement, where nova-compute takes the devices, the best.

    :returns: None where none are asked for, the devices cannot be told apart
        or do not suffice.
    """
    lead = requests.requests[0]
    pci_stats = host_state.pci_stats
    if not lead.count or not host_pools.is_readable(pci_stats):
        return None
    if not usable_devices.are_comparable(pci_stats.pools, lead):
        return None
    usable = usable_devices.find_usable(pci_stats.pools, lead)
    candidates = host_state.allocation_candidates
    mapping = candidates[0]["mappings"] if candidates else None
    rp_uuids = lead.collect_rp_uuids(mapping)
    if not rp_uuids:
        best = choice.rank_device_sets(
            usable.topology,
            usable.topology.everything,
            lead.count,
            requests.link_policy,
            requests.request_mix,
        ).list_best_first(requests.seed, 1)
        return Offer(usable, best[0]) if best else None
    mask = usable.make_mask(rp_uuids)
    return Offer(usable, mask) if mask else None
