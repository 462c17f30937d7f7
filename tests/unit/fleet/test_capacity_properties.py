# SPDX-License-Identifier: Apache-2.0

"""Counting servers against placing them one by one, on any machine."""

import itertools

from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nova_gpu_filter.fleet import capacity
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.topology.topology import list_devices
from tests import machines
from tests.unit.fleet import builders
from tests.unit.fleet.test_capacity import wanted

MACHINES = (
    machines.hgx_h100_partitions(),
    machines.bridge_pairs_h100_nvl(),
    machines.dgx1_v100(),
    machines.pcie_pix_node_sys(),
    machines.uneven_numa(),
)
HOSTS = st.builds(
    builders.machine,
    st.just("a"),
    st.sampled_from(MACHINES),
    st.sets(st.integers(0, 7)),
)
DEMANDS = st.builds(
    lambda count, link: wanted(
        f"h100:{count}", **({"gpu__link": link} if link else {})
    ),
    st.integers(1, 8),
    st.sampled_from((None, "fabric", "nvlink", "pix", "node")),
)


def _most(host, asked):
    """Count disjoint good sets by trying all of them."""
    found = linked_devices.LinkedDevices.from_devices(host.devices)
    count = asked.devices[0].count
    free = list_devices(found.free)
    good = [
        frozenset(devices)
        for devices in itertools.combinations(free, count)
        if _is_good(found.topology, devices, asked)
    ]

    def most(sets):
        return max(
            (
                1 + most([s for s in sets[place + 1 :] if not s & chosen])
                for place, chosen in enumerate(sets)
            ),
            default=0,
        )

    return most(good)


def _is_good(topology, devices, asked):
    policy = asked.link_policy
    if policy is None:
        return True
    mask = sum(1 << device for device in devices)
    if policy.link.value == "fabric":
        return mask in topology.list_whole_partitions(len(devices), mask)
    return topology.find_weakest_link(mask) >= policy.link.floor


@settings(max_examples=150, deadline=None)
@given(HOSTS, DEMANDS)
def test_as_many_fit_as_there_are_disjoint_good_sets(host, asked):
    count = asked.devices[0].count
    free = sum(device.is_free for device in host.devices)
    # Else there are too many ways to try.
    assume(count > 2 or free <= 6)
    assert host_fit.count_fitting(host, asked) == _most(host, asked)


@settings(max_examples=150, deadline=None)
@given(HOSTS, DEMANDS)
def test_servers_can_be_placed_until_none_fits(host, asked):
    placed, fits = 0, host_fit.count_fitting(host, asked)
    (in_mix,) = capacity.count_mix([host], [asked])
    while host_fit.count_fitting(host, asked):
        host = capacity.add_server(host, asked)
        placed += 1
    # One after the other may be fewer than all at once, never more.
    assert placed <= fits
    assert bool(placed) is bool(fits)
    assert placed == in_mix
