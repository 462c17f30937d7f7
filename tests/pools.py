# SPDX-License-Identifier: Apache-2.0

"""Pools of the machines of tests/machines.py, as PciDeviceStats holds them."""

from nova_gpu_filter.topology import codec
from nova_gpu_filter.topology import groups

H100 = {"vendor_id": "10de", "product_id": "2330"}


def of(topology, free=None, in_placement=True, **properties):
    """Make the pools of the free devices of a host, one for each.

    :param free: numbers of the devices; None for all.
    :param in_placement: whether they have resource providers ``gpu<n>``.
    """
    texts = [codec.format_text(links) for links in groups.decompose(topology)]
    pools = []
    for device in range(topology.n) if free is None else free:
        pool = H100 | {
            "dev_type": "type-PCI",
            "numa_node": topology.numa[device],
            "count": 1,
            "address": address(device),
            "gpu_links": texts[device],
        }
        if in_placement:
            pool["rp_uuid"] = f"gpu{device}"
        pools.append(pool | properties)
    return pools


def address(device):
    """Return the PCI address that :func:`of` gives a device."""
    return f"0000:{0x10 + device:02x}:00.0"
